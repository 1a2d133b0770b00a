"""All settings, read once per process from `SLM_*` environment variables.

In a container a setting may also be a file of that name in /run/secrets, to keep it out of the environment.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Literal, get_args

from pydantic import ByteSize, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.adapters.names import is_name, public_name
from common.bases import OPTIONS, Base, parse_bases
from common.environment import rename_old
from common.network import AllowedOrigins, is_loopback
from common.rabbitmq import RabbitAddress
from common.redis.address import RedisAddress

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]
KvCacheDtype = Literal["auto", "int8"]

ROOT = Path(__file__).resolve().parent.parent
# In a checkout the data are in its folder; if the package is installed, in the user's current one.
DATA_DIR = ROOT / "data" if (ROOT / "start_slm_api.py").is_file() else Path("data")
ENV_PREFIX = "SLM_"
SECRETS = {"redis_url", "broker_url", "webhook_secret", "worker_key"}  # their values are never displayed
SECRETS_DIR = Path("/run/secrets")

# As browsers send it: "null" for a page opened from a file. "localhost" allows all of this machine, "*" all.
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?|null|localhost|\*")


class SettingsError(Exception):
    """A setting is unknown or has a value that cannot be used; the text names the variable and the value."""


class Settings(BaseSettings):
    """The settings with their defaults. The variable of field `x` is `SLM_X`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    redis_url: str | None = Field(
        None, description="Redis (or Valkey) server for the jobs and the queue. Unset: the server starts its own."
    )
    redis_replicas: int = Field(
        0,
        ge=0,
        le=10,
        description="Number of replicas of SLM_REDIS_URL that must have a job before it is accepted. "
        "0: a failover can lose the latest.",
    )
    broker_url: str | None = Field(
        None,
        pattern=r"^amqps?://([^\s/?#]*@)?([^\s/?#@:\[\]]+|\[[\da-fA-F:]+\])(:\d+)?(/[^\s?#]*)?(\?[^\s#]*)?$",
        description="RabbitMQ server for Celery's wake-up messages, such as amqp://user:password@host:5672/vhost, or "
        "amqps:// with TLS. Unset: they go through Redis.",
    )
    data_dir: Path = Field(DATA_DIR, description="Folder for models, Redis data and logs.")
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="Number of proxies in front of the API, each of which adds its client to X-Forwarded-For.",
    )
    published_host: str | None = Field(
        None, description="Address at which a container's port is published. Unset: SLM_HOST."
    )
    insecure: bool = Field(
        False, description="Serve other machines without API keys: anyone who can reach the server is then an admin."
    )
    port: int = Field(5000, ge=1, le=65535, description="Port the API listens on.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Minimum log level: DEBUG, INFO, WARNING or ERROR."
    )
    log_format: Literal["text", "json"] = Field("text", description="Log format: text or json.")
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318. Unset: no traces.",
    )

    base_model: str = Field(
        "SmolLM2-135M-Instruct",
        min_length=1,
        description="Base model: the built-in default, a local folder, a GGUF file, or a hub id such as gpt2.",
    )
    models: str | None = Field(
        None,
        description="Several base models, as in smol=SmolLM2-135M-Instruct; chat=/models/qwen,workers=2. "
        "The first is the default. Unset: only SLM_BASE_MODEL.",
    )
    worker_base: str | None = Field(
        None, description="Name of the base model in SLM_MODELS that a worker serves. Unset: the first."
    )
    keep_alive_s: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        description="Seconds without a job after which a base model is unloaded, until the next request. Unset: never.",
    )
    lora_path: Path | None = Field(
        None,
        description="LoRA adapter folder for requests without a name. "
        "Unset: SLMInit/cuda_lora_out, else cpu_lora_out, else demo_lora.",
    )
    adapters_dir: Path | None = Field(
        None, description="Folder of LoRA adapter folders, each of which is served under its name. Unset: none."
    )
    device: Device = Field("auto", description="Device for the model: auto, cpu, cuda or mps.")
    dtype: Dtype = Field(
        "auto", description="Number format of the weights; auto: int8 on a CPU, bfloat16 on a GPU. float32 is exact."
    )
    threads: int = Field(0, ge=0, le=256, description="CPU threads per worker. 0: all cores that it may use.")
    max_num_seqs: int = Field(32, ge=1, le=512, description="Maximum number of generations that a worker runs at once.")
    kv_memory: ByteSize | None = Field(
        None,
        gt=0,
        description="Memory limit of the key-value cache, such as 2GiB. "
        "Unset: up to 1 GiB on a CPU, most free memory on a GPU.",
    )
    kv_cache_dtype: KvCacheDtype = Field(
        "auto",
        description="Number format of the key-value cache; auto: that of the computation. int8 takes about half of the "
        "memory; only for models that run natively on a CPU.",
    )
    adapter_memory: ByteSize = Field(
        ByteSize(512 * 2**20),
        gt=0,
        description="Memory for a worker's adapters, such as 1GiB. Above it, the least recently used idle ones go.",
    )
    context: int = Field(
        2048,
        ge=16,
        le=1_048_576,
        description="Maximum number of tokens of prompt and answer together. The model's own limit also applies.",
    )

    sync_timeout_s: float = Field(
        120.0, ge=0, le=3600, description="Seconds that POST /slm/generate waits before it answers 202."
    )
    lease_s: float = Field(
        5.0, ge=0.5, le=300, description="Seconds without a heartbeat after which a worker is considered dead."
    )
    job_ttl_s: int = Field(3600, ge=1, le=2_592_000, description="Seconds for which a finished job can still be read.")
    max_queue: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Maximum number of waiting jobs, and of jobs waiting to be prepared. More are refused with 503.",
    )
    drain_s: float = Field(
        20.0, ge=0, le=3600, description="Seconds that a stopping worker gives its generations to finish."
    )
    max_body_bytes: int = Field(
        1_048_576, ge=1024, le=104_857_600, description="Maximum size of a request body in bytes."
    )
    max_prompt_chars: int = Field(
        262_144,
        ge=1,
        le=104_857_600,
        description="Maximum length of a prompt in characters. The model's context also applies.",
    )
    reasoning_parser: Literal["auto", "none", "think", "mistral"] = Field(
        "auto",
        description="How reasoning before an answer is found: think (<think>), mistral ([THINK]), auto: by the chat "
        "template; or none.",
    )
    max_logprobs: int = Field(
        20,
        ge=-1,
        le=1_000_000,
        description="Maximum number of alternatives whose log probabilities a chat completion or a completion may ask "
        "for; elsewhere it is 20. -1: the whole vocabulary.",
    )
    max_file_bytes: int = Field(
        10_485_760, ge=1024, le=209_715_200, description="Maximum size in bytes of a file uploaded for a batch."
    )
    max_adapter_bytes: int = Field(
        536_870_912,
        ge=1024,
        le=17_179_869_184,
        description="Maximum size in bytes of an uploaded adapter: of its archive, and of its files.",
    )
    trainer: bool = Field(True, description="Whether the server also starts a process that trains adapters.")
    train_device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$",
        description="Device for training: auto (the first GPU, else the CPU), cpu, mps, cuda or cuda:1.",
    )
    train_threads: int = Field(
        1,
        ge=0,
        le=256,
        description="CPU threads for training. 0: all cores that it may use.",
    )
    train_nice: int = Field(
        19, ge=0, le=19, description="Priority of training on the CPU: 19 is the lowest, 0 is that of serving."
    )
    train_disk: ByteSize = Field(
        ByteSize(10 * 2**30),
        gt=0,
        description="Maximum size of the folders of all training runs, such as 20GiB.",
    )
    train_ttl_s: int = Field(
        604_800, ge=60, le=31_536_000, description="Seconds for which an ended training run can still be read."
    )
    embed_model: str | None = Field(
        None,
        min_length=1,
        description="Model for embeddings: a sentence-transformers folder, or the name of one in data/models. "
        "Unset: none.",
    )
    embed_device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$",
        description="Device for embeddings: auto (the first GPU, else the CPU), cpu, mps, cuda or cuda:1.",
    )
    embed_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="CPU threads for embeddings. 0: all cores that the process may use.",
    )
    file_ttl_s: int = Field(604_800, ge=60, le=31_536_000, description="Seconds for which files and batches are kept.")
    feedback_ttl_s: int = Field(
        7_776_000,
        ge=60,
        le=315_360_000,
        description="Seconds for which feedback on a job is kept, with the job's prompt and answer.",
    )
    max_conversations: int = Field(
        10_000, ge=0, le=1_000_000, description="Maximum number of conversations that an owner may keep."
    )
    max_messages: int = Field(
        5000, ge=1, le=100_000, description="Maximum number of messages in a conversation, with all of its branches."
    )
    conversation_memory: ByteSize = Field(
        ByteSize(64 * 2**20), gt=0, description="Maximum size of an owner's conversations together, such as 64MiB."
    )
    conversation_ttl_s: int = Field(
        0,
        ge=0,
        le=315_360_000,
        description="Seconds for which a conversation is kept after its latest change. 0: until it is deleted.",
    )
    body_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Seconds that a client may take to send a request body."
    )
    cors_origins: str | None = Field(
        None,
        description="Origins that may call the API, separated by commas. null: local files; localhost: this machine, "
        "with any port; *: all. Unset: its own.",
    )
    heartbeat_s: float = Field(
        15.0, gt=0, le=300, description="Seconds of silence after which an open stream sends a comment."
    )
    reader_grace_s: float = Field(
        30.0, gt=0, le=86_400, description="Seconds that a job continues after its last reader has disconnected."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Key that signs webhooks: whsec_ and 24 to 64 bytes in base64. Unset: no webhooks."
    )
    webhook_allow_private: bool = Field(
        False, description="Allow webhooks to private addresses. Only for servers that trust every client."
    )
    api_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="Address of the API for a worker that does not share its data folder, such as "
        "http://10.0.0.5:5000. Unset: they share it.",
    )
    worker_key: SecretStr | None = Field(
        None, description="API key with the role worker, which such a worker sends to the API."
    )
    redis_fsync: Literal["everysec", "always"] = Field(
        "everysec",
        description="When the embedded Redis writes to disk: everysec (a power cut can lose a second) or always.",
    )
    redis_memory: ByteSize | None = Field(
        None,
        ge=67_108_864,
        description="Memory limit of the embedded Redis, such as 2GiB. Unset: a quarter of the machine's memory.",
    )

    @field_validator("redis_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None:
            RedisAddress.parse(url)
        return url

    @field_validator("broker_url")
    @classmethod
    def _is_a_broker(cls, url: str | None) -> str | None:
        if url is not None:
            RabbitAddress.parse(url)
        return url

    @field_validator("redis_replicas")
    @classmethod
    def _can_have_replicas(cls, count: int, info: ValidationInfo) -> int:
        if count and info.data.get("redis_url", "") is None:  # a wrong URL is missing here, and has its own error
            raise ValueError("it needs SLM_REDIS_URL: the server's own Redis has no replicas")
        return count

    @field_validator("models")
    @classmethod
    def _are_bases(cls, models: str | None) -> str | None:
        if models is not None:
            _parsed(models)
        return models

    @field_validator("worker_base")
    @classmethod
    def _is_one_of_them(cls, name: str | None, info: ValidationInfo) -> str | None:
        models: str | None = info.data.get("models")
        names = [base.name for base in _parsed(models)] if models else []
        if name is not None and name not in names:
            known = f"one of the names in SLM_MODELS: {', '.join(names)}" if names else "unset, because SLM_MODELS is"
            raise ValueError(f"it must be {known}")
        return name

    @property
    def bases(self) -> tuple[Base, ...]:
        """The base models of the server; the first is the default."""
        return _parsed(self.models) if self.models else (Base(public_name(self.base_model), self.base_model),)

    @field_validator("embed_model")
    @classmethod
    def _has_its_own_name(cls, source: str | None, info: ValidationInfo) -> str | None:
        data = info.data
        models: str | None = data.get("models")
        sources = [base.name for base in _parsed(models)] if models else [data.get("base_model", "")]
        if source is not None and Path(source).name in {public_name(one) for one in sources}:
            raise ValueError("it must not have the name of a base model")
        return source

    @property
    def embed_folder(self) -> Path | None:
        """The folder of the model for embeddings: the one named, or that of the name among the models."""
        if self.embed_model is None:
            return None
        named = self.data_dir / "models" / self.embed_model
        return named if is_name(self.embed_model) and named.is_dir() else Path(self.embed_model).expanduser()

    @property
    def embed_name(self) -> str | None:
        """The name of the model for embeddings in requests."""
        return None if self.embed_model is None else Path(self.embed_model).name

    @property
    def own_base(self) -> Base:
        """The base model of this process, if it is a worker."""
        return next((base for base in self.bases if base.name == self.worker_base), self.bases[0])

    @property
    def lane_base(self) -> str:
        """The base model whose lanes this process serves, if it is a worker; empty if there is only one."""
        return self.own_base.name if self.models else ""

    @property
    def lane_bases(self) -> tuple[str, ...]:
        """The `lane_base` of every worker of the server."""
        return tuple(base.name for base in self.bases) if self.models else ("",)

    def of_worker(self) -> Settings:
        """Return the settings of this process as a worker: the model is that of its base."""
        base = self.own_base
        options = {name: value for name in OPTIONS if (value := getattr(base, name))}
        return self.model_copy(update={"base_model": base.source} | options)

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_key(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            _signing_key(secret)
        return secret

    @property
    def allows_anonymous(self) -> bool:
        """Whether requests without a key are allowed, as admin, while there are no API keys."""
        return self.insecure or is_loopback(self.published_host or self.host)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: str | None) -> str | None:
        if wrong := [one for one in _listed(origins) if not _ORIGIN.fullmatch(one)]:
            raise ValueError(f"{wrong[0]!r} is not an origin such as https://chat.example.com")
        return origins

    @property
    def allowed_origins(self) -> AllowedOrigins:
        """The origins in `cors_origins`."""
        return AllowedOrigins(frozenset(_listed(self.cors_origins)))

    def required_redis_url(self) -> str:
        """Return the URL of Redis, for a process that does not start it.

        Raises:
            SettingsError: `redis_url` is not set.
        """
        if self.redis_url is None:
            raise SettingsError(
                "SLM_REDIS_URL is not set. 'slm serve' starts a Redis and sets it for its processes; "
                "to start this process by hand, set it to the Redis that holds the jobs."
            )
        return self.redis_url

    @property
    def redis_has_queues(self) -> bool:
        """Whether Celery's queues are in Redis, and not in RabbitMQ."""
        return self.broker_url is None

    @property
    def webhook_key(self) -> bytes | None:
        """The key that signs webhooks; None if webhooks are off."""
        return None if self.webhook_secret is None else _signing_key(self.webhook_secret)

    @classmethod
    def from_env(cls) -> Settings:
        """Read the environment.

        Raises:
            SettingsError: a variable with our prefix is not a setting, or a value is not allowed.
        """
        rename_old(os.environ)
        known = {f"{ENV_PREFIX}{name}".upper() for name in cls.model_fields}
        unknown = sorted(
            name for name in os.environ if name.upper().startswith(ENV_PREFIX) and name.upper() not in known
        )
        if unknown:
            raise SettingsError(f"{unknown[0]} is not a setting. Known: {', '.join(sorted(known))}.")
        try:
            return cls(_secrets_dir=SECRETS_DIR if os.access(SECRETS_DIR, os.R_OK | os.X_OK) else None)
        except ValidationError as err:
            first = err.errors()[0]
            field = str(first["loc"][0])
            value = "***" if field in SECRETS else repr(first["input"])
            message = f"{ENV_PREFIX}{field.upper()} has the value {value}: {first['msg']}."
            raise SettingsError(message) from None  # the cause would show every value


def _parsed(models: str) -> tuple[Base, ...]:
    choices = {"device": get_args(Device), "dtype": get_args(Dtype), "kv_cache_dtype": get_args(KvCacheDtype)}
    return parse_bases(models, choices)


def _listed(text: str | None) -> list[str]:
    return [part for one in (text or "").split(",") if (part := one.strip())]


def _signing_key(secret: SecretStr) -> bytes:
    """Decode the key. Raises `ValueError` if the secret has another form."""
    prefix, _, text = secret.get_secret_value().partition("_")
    key = base64.b64decode(text, validate=True)
    if prefix != "whsec" or not 24 <= len(key) <= 64:
        raise ValueError("must be whsec_ and 24 to 64 bytes in base64")
    return key
