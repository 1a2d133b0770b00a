"""The routes. Each only translates: read the request, call a service, map the outcome to an answer."""
