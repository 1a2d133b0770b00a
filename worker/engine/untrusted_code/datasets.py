"""Checks a dataset in a child of the helper: the template is untrusted, and large datasets take long."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from common.errors import InvalidRequest

if TYPE_CHECKING:
    from models.text.text_encoder import Encoding
    from training.data import Dataset, Encoder, Plan

TOKENS_PER_S = 40.0  # of a training on two CPU cores, where the shipped adapter was trained


@dataclass(frozen=True, slots=True)
class DatasetToCheck:
    """A dataset, and how a training would use it.

    Args:
        content: the dataset; bytes that are not UTF-8 are surrogates.
        held_out: a dataset to test with; None: a part of `content`.
        options: values of `training.recipe.Recipe` that replace its defaults.
        seed: chooses the part that is held out.
        tokens_per_s: the assumed speed; None: `TOKENS_PER_S`.
        context: the model's maximum number of tokens.
        template: the chat template.
        tokenizer: a `models.text.plain_tokenizer.TokenizerState` in JSON form; None: tokens are not counted.
    """

    content: str
    held_out: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    tokens_per_s: float | None = None
    context: int = 0
    template: str = ""
    tokenizer: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, the arguments of the class."""
        return asdict(self)


def check_dataset(wanted: DatasetToCheck, encoding: Encoding | None = None) -> dict[str, Any]:
    """Return the report (`training.data.Report.to_json`).

    `encoding`, if given, is one with the tokenizer of `wanted`: to prepare another takes half a second.

    Raises:
        InvalidRequest: an option is wrong, or the model's chat template cannot be used.
    """
    from jinja2 import TemplateError

    from training.data import check
    from training.errors import RecipeError

    held_out = None if wanted.held_out is None else _bytes(wanted.held_out)
    try:
        encoder = _encoder(wanted, encoding)
        report = check(_bytes(wanted.content), encoder, partial(_plan, wanted), held_out=held_out, seed=wanted.seed)
    except TemplateError as err:
        raise InvalidRequest(f"The model's chat template cannot be used: {err}", param="model") from err
    except RecipeError as err:
        raise InvalidRequest(str(err), param=err.field) from err
    return report.to_json()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encoder(wanted: DatasetToCheck, encoding: Encoding | None) -> Encoder | None:
    from models.text.conversation import ConversationEncoder
    from models.text.plain_tokenizer import PlainTokenizer, TokenizerState
    from training.data import Encoder

    if wanted.tokenizer is None:
        return None
    tokenizer = PlainTokenizer(TokenizerState(**wanted.tokenizer))
    conversations = ConversationEncoder(tokenizer, wanted.template, like=encoding)
    return Encoder(conversations, tokenizer.eos_token_id, tokenizer.decode)


def _plan(wanted: DatasetToCheck, dataset: Dataset) -> Plan:
    from training.data import Plan
    from training.recipe import Recipe

    recipe = Recipe.for_dataset(dataset, wanted.options)
    longest = min(recipe.max_length, wanted.context or recipe.max_length)
    return Plan(recipe.epochs, recipe.batch_size, longest, wanted.tokens_per_s or TOKENS_PER_S)
