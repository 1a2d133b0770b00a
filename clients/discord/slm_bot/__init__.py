"""A Discord bot that answers with the model of the SLM server."""
