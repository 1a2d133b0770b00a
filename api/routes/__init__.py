"""The routes of `/slm` and the server itself. Each only translates: read the request, call a service, respond."""
