"""llama.cpp's own routes, for clients that use them instead of OpenAI's."""
