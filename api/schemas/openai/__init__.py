"""The shapes of OpenAI's API, as far as this server fills them."""
