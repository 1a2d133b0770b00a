"""The base of the bodies of requests under `/slm` that have a prompt, for which they choose a model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from api.schemas.job_options import Body
from api.schemas.meaning import Meaning
from common.errors import InvalidRequest

MAX_NAME_CHARS = 200

ModelName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


class PromptBody(Body):
    """The body of a request that has a prompt."""

    model: Annotated[
        ModelName | None,
        Meaning(
            "The model to use: a base model, an adapter, one version of it such as `support@3`, or an alias. "
            "If it is missing, the alias `default`."
        ),
    ] = Field(None, description=f"the name of a model, of at most {MAX_NAME_CHARS} characters")
    adapter: Annotated[ModelName | None, Meaning("Another name for `model`.")] = Field(
        None, description=f"the name of a model, of at most {MAX_NAME_CHARS} characters"
    )

    @model_validator(mode="after")
    def _has_one_model(self) -> PromptBody:
        if None not in (self.model, self.adapter) and self.model != self.adapter:
            raise InvalidRequest("adapter must not differ from model; it is another name for it", param="adapter")
        return self

    @property
    def chosen_model(self) -> str:
        """The name of the model; empty for the default."""
        return self.model or self.adapter or ""
