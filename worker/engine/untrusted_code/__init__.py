"""Programs that come with a model or a request, run in the helper's children."""
