"""The script that keeps its prompts, as for OpenAI's API."""

from tests.unit.api.openai.conftest import seen

__all__ = ["seen"]
