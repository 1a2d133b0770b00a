"""The bodies and the answers of llama.cpp's own routes, with the fields that this server supports."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, RootModel, model_validator

from api.schemas.answer_form import Gbnf, SchemaOrText
from api.schemas.errors import OpenAIError
from api.schemas.grammar import schema_grammar
from api.schemas.ignored import IGNORED, OtherServersFields
from api.schemas.job_options import RequestOptions
from api.schemas.meaning import Meaning
from api.schemas.response_model import Count, ResponseModel
from api.schemas.sampling import MAX_BIASES, MAX_NEW_TOKENS, MAX_SEED
from api.schemas.strict import FIRST_ERROR, Strict
from api.schemas.tokens import TokenId
from common.adapters.names import DEFAULT_ALIAS
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import RawText, TokenIds
from common.jobs.sampling import MAX_LOGPROBS, Grammar, GrammarKind, SamplingParams

MAX_PROMPTS = 128
MAX_BIAS = 1e9
NEVER = -MAX_BIAS  # the bias of a token that must not come
MAX_TOKEN_ID = 2**31 - 1

Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[TokenId], Field(min_length=1), FIRST_ERROR]
BiasValue = Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)] | Literal[False]
BiasPair = Annotated[list[int | str | float | bool], Field(min_length=2, max_length=2)]
_Unused = Annotated[
    Any,
    IGNORED,
    Meaning("Accepted and ignored: it belongs to a way of sampling that is off, or to the scheduler."),
]


class PromptObject(Strict):
    """A prompt as an object."""

    prompt_string: Text


Prompt = Text | PromptObject | Tokens


class LlamaSampling(OtherServersFields, RequestOptions):
    """The fields of completions and infills, with llama.cpp's names and defaults."""

    model: Annotated[str, Meaning("The model to use; if it is missing, the alias `default`.")] = Field(
        DEFAULT_ALIAS, min_length=1, description="the name of a model that GET /v1/models lists"
    )
    n_predict: Annotated[int, Meaning("Maximum number of tokens of the answer.")] = Field(
        -1, ge=-2, le=MAX_NEW_TOKENS, description=f"an integer from 0 to {MAX_NEW_TOKENS}, or -1 for no limit"
    )
    stream: Annotated[bool, Meaning("Whether to stream the answer.")] = Field(False, description="true or false")
    temperature: float = Field(0.8, ge=0, le=5, description="a number from 0 to 5")
    top_k: int = Field(40, ge=-1, le=1_000_000, description="an integer from 0 to 1000000; 0 and -1 mean off")
    top_p: float = Field(0.95, gt=0, le=1, description="a number above 0 and at most 1")
    min_p: float = Field(0.05, ge=0, le=1, description="a number from 0 (off) to 1")
    repeat_penalty: Annotated[float, Meaning("Divides the logits of the tokens in prompt and answer.")] = Field(
        1.0, ge=0.01, le=100, description="a number from 0.01 to 100"
    )
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    seed: Annotated[int, Meaning("The same seed and request give the same tokens. Random if it is -1.")] = Field(
        -1, ge=-1, le=MAX_SEED, description="an integer of 64 bits, or -1"
    )
    stop: str | Annotated[list[str], Field(max_length=8), FIRST_ERROR] = Field(
        default_factory=list, description="a string or a list of at most 8 strings; an empty string has no effect"
    )
    ignore_eos: bool = Field(False, description="true or false")
    logit_bias: Annotated[
        Annotated[list[BiasPair], Field(max_length=MAX_BIASES), FIRST_ERROR]
        | Annotated[dict[str, BiasValue], Field(max_length=MAX_BIASES)],
        Meaning("Added to the logits, by token id or text. `false` forbids a token."),
    ] = Field(
        default_factory=list,
        description=f"a list of at most {MAX_BIASES} pairs, or an object, of token ids or texts and numbers or false",
    )
    n_probs: Annotated[int, Meaning("The number of alternatives to return for each token, with log probabilities.")] = (
        Field(0, ge=0, le=MAX_LOGPROBS, description=f"an integer from 0 to {MAX_LOGPROBS}")
    )
    grammar: Annotated[Gbnf | None, Meaning("The form that the answer must have, in GBNF.")] = Field(
        None, description="a grammar"
    )
    json_schema: Annotated[SchemaOrText | None, Meaning("The JSON schema that the answer must follow.")] = Field(
        None, description="a JSON schema"
    )
    return_tokens: Annotated[bool, Meaning("Whether to return the token ids of the answer.")] = Field(
        False, description="true or false"
    )
    response_fields: Annotated[
        list[str], Meaning("Return only these fields; `a/b` is the field b in a, and the name in the answer.")
    ] = Field(default_factory=list, max_length=64, description="a list of at most 64 names")
    samplers: _Unused = Field(None, description="any value")
    repeat_last_n: _Unused = Field(None, description="any value")
    penalize_nl: _Unused = Field(None, description="any value")
    n_keep: _Unused = Field(None, description="any value")
    n_discard: _Unused = Field(None, description="any value")
    min_keep: _Unused = Field(None, description="any value")
    dynatemp_exponent: _Unused = Field(None, description="any value")
    mirostat_tau: _Unused = Field(None, description="any value")
    mirostat_eta: _Unused = Field(None, description="any value")
    xtc_threshold: _Unused = Field(None, description="any value")
    dry_base: _Unused = Field(None, description="any value")
    dry_allowed_length: _Unused = Field(None, description="any value")
    dry_penalty_last_n: _Unused = Field(None, description="any value")
    dry_sequence_breakers: _Unused = Field(None, description="any value")

    @model_validator(mode="after")
    def _has_one_form(self) -> LlamaSampling:
        if self.grammar is not None and self.json_schema is not None:
            raise InvalidRequest("json_schema must not be used together with grammar", param="json_schema")
        return self

    @model_validator(mode="after")
    def _has_biases(self) -> LlamaSampling:
        _ = self.biases
        return self

    @property
    def form(self) -> Grammar | None:
        """The form that the answer must have; None if any."""
        if self.grammar is not None:
            return Grammar(GrammarKind.GBNF, self.grammar)
        return None if self.json_schema is None else schema_grammar(self.json_schema)

    @property
    def max_new_tokens(self) -> int:
        """The maximum number of tokens of the answer."""
        return self.n_predict if self.n_predict >= 0 else MAX_NEW_TOKENS

    @property
    def biases(self) -> dict[int | str, float]:
        """The bias of each token id or text. Raises `InvalidRequest`."""
        if isinstance(self.logit_bias, dict):
            return dict(_bias(_named(key), value) for key, value in self.logit_bias.items())
        return dict(_bias(key, value) for key, value in self.logit_bias)

    def drawn_seed(self) -> int:
        """Return the seed; a random one if it is missing, so that all attempts sample the same."""
        return secrets.randbelow(MAX_SEED) if self.seed < 0 else self.seed

    def generation(self, prompt: RawText | TokenIds, seed: int) -> GenerateParams:
        """Return the parameters of the job for one prompt."""
        biases = self.biases
        sampling = SamplingParams(
            seed=seed,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(self.top_k, 0),
            min_p=self.min_p,
            repetition_penalty=self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias={key: bias for key, bias in biases.items() if isinstance(key, int)},
            logprobs=self.n_probs or None,
            stop=tuple(filter(None, [self.stop] if isinstance(self.stop, str) else self.stop)),
            ignore_eos=self.ignore_eos,
            grammar=self.form,
        )
        return GenerateParams(
            prompt, sampling, text_bias={key: bias for key, bias in biases.items() if isinstance(key, str)}
        )


class LlamaCompletionBody(LlamaSampling):
    """Body of `POST /completion`."""

    prompt: Annotated[
        Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=MAX_PROMPTS)],
        Meaning("What to continue; of several prompts, each gets an answer."),
    ] = Field(description=f"a text, a list of token ids, an object with prompt_string, or a list of 1 to {MAX_PROMPTS}")

    @property
    def has_several(self) -> bool:
        """Whether the answer is a list."""
        return isinstance(self.prompt, list) and not isinstance(self.prompt[0], int)

    @property
    def prompts(self) -> list[RawText | TokenIds]:
        """The prompts."""
        if not isinstance(self.prompt, list):
            return [_prompt(self.prompt)]
        ids = [one for one in self.prompt if isinstance(one, int)]
        return [TokenIds(tuple(ids))] if ids else [_prompt(one) for one in self.prompt if not isinstance(one, int)]


class ExtraText(Strict):
    """A text from elsewhere, such as another file of the project."""

    text: str
    filename: str | None = None


class LlamaInfillBody(LlamaSampling):
    """Body of `POST /infill`: fills in the middle. Only models with tokens for that can do so."""

    input_prefix: Annotated[str, Meaning("The text before the answer.")] = Field("", description="a string")
    input_suffix: Annotated[str, Meaning("The text after the answer.")] = Field(
        min_length=1, description="a non-empty string"
    )
    input_extra: Annotated[list[ExtraText], Meaning("Texts that come before everything else.")] = Field(
        default_factory=list, max_length=64, description="a list of at most 64 objects with a text and a filename"
    )
    prompt: Annotated[str, Meaning("The beginning of the answer, which the client already has.")] = Field(
        "", description="a string"
    )

    @property
    def has_several(self) -> bool:
        """Whether the answer is a list."""
        return False

    @property
    def prompts(self) -> list[RawText | TokenIds]:
        """The one prompt."""
        extra = "".join(f"\n\n--- snippet ---\n\n{one.text}" for one in self.input_extra)
        return [RawText(f"{extra}{self.input_prefix}{self.prompt}", suffix=self.input_suffix)]


LlamaBody = LlamaCompletionBody | LlamaInfillBody


def _prompt(given: str | PromptObject | list[int]) -> RawText | TokenIds:
    if isinstance(given, list):
        return TokenIds(tuple(given))
    return RawText(given if isinstance(given, str) else given.prompt_string)


def _named(key: str) -> int | str:
    """Return the token id in a key of an object, whose keys are texts; the text if it is no token id."""
    is_id = key.isascii() and key.isdigit() and len(key) <= len(str(MAX_TOKEN_ID))
    return int(key) if is_id else key


def _bias(key: Any, value: Any) -> tuple[int | str, float]:
    """Return the token id or the text, and its bias. Raises `InvalidRequest`."""
    is_token = (isinstance(key, str) and key != "") or (type(key) is int and 0 <= key <= MAX_TOKEN_ID)
    is_bias = value is False or (type(value) in (int, float) and abs(value) <= MAX_BIAS)
    if not is_token or not is_bias:
        raise InvalidRequest(
            f"logit_bias must have token ids or texts, each with a number from {NEVER:.0f} to {MAX_BIAS:.0f} or false",
            param="logit_bias",
        )
    return key, NEVER if value is False else float(value)


class LlamaTimings(ResponseModel):
    """Numbers of tokens and durations."""

    cache_n: Annotated[Count, Field(description="tokens of the prompt that an earlier request's prompt already had")]
    prompt_n: Annotated[Count, Field(description="the other tokens of the prompt")]
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: Count
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class LlamaScored(ResponseModel):
    """A token and the natural logarithm of its probability."""

    id: Count
    token: str
    bytes: list[Count]
    logprob: float


class LlamaProbability(LlamaScored):
    """A token of the answer, and the most probable tokens at its position."""

    top_logprobs: list[LlamaScored]


class LlamaPart(ResponseModel):
    """A part of a stream before its end."""

    index: Count
    content: str
    tokens: list[Count]
    stop: Literal[False]
    id_slot: Count
    tokens_predicted: Count
    tokens_evaluated: Count
    completion_probabilities: NotRequired[list[LlamaProbability]]


class LlamaAnswer(ResponseModel):
    """An answer, or the last part of a stream."""

    index: Count
    content: str
    tokens: list[Count]
    id_slot: Count
    stop: Literal[True]
    model: str
    tokens_predicted: Count
    tokens_evaluated: Count
    generation_settings: dict[str, Any]
    prompt: str
    has_new_line: bool
    truncated: Literal[False]
    stop_type: Literal["eos", "limit", "word"]
    stopping_word: str
    tokens_cached: Count
    timings: LlamaTimings
    completion_probabilities: NotRequired[list[LlamaProbability]]


class LlamaAnswers(RootModel[LlamaAnswer | list[LlamaAnswer] | dict[str, Any] | list[dict[str, Any]]]):
    """An answer, a list of them for a list of prompts, or only the `response_fields`."""


class LlamaFrame(RootModel[LlamaPart | LlamaAnswer | OpenAIError]):
    """The data of an event of a stream."""


class LlamaProps(ResponseModel):
    """Facts about the server and its default model."""

    default_generation_settings: Annotated[
        dict[str, Any], Field(description="`n_ctx`, the maximum number of tokens, and `params`, the defaults")
    ]
    total_slots: Annotated[Count, Field(description="number of generations that run at once")]
    model_alias: str
    model_path: str
    modalities: Mapping[str, bool]
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str


class LlamaSlot(ResponseModel):
    """A place for a generation."""

    id: Count
    n_ctx: Count
    speculative: bool
    is_processing: bool


class LlamaSlots(RootModel[list[LlamaSlot]]):
    """All places of the server."""


class LlamaPrompt(ResponseModel):
    """A chat as the model sees it."""

    prompt: str
