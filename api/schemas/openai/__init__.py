"""The objects of OpenAI's API, with the fields that this server supports."""
