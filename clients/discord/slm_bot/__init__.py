"""A Discord bot that answers with the SLM server's model."""
