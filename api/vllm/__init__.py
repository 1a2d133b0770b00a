"""The routes of vLLM's server outside of `/v1`; its fields of generations are in `api/openai`."""
