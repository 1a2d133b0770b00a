"""The bodies of requests and responses about the server and its model."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field

from api.schemas.job_options import Body
from api.schemas.meaning import Meaning
from api.schemas.prompt_body import MAX_NAME_CHARS, ModelName
from api.schemas.response_model import Count, JobId, ResponseModel
from common.fleet import WorkerState


class ModelBody(Body):
    """Body of `POST /slm/load` and `/slm/unload`."""

    model: Annotated[
        ModelName | None,
        Meaning(
            "The base model to load or unload; for an adapter or alias, its base. If it is missing, the default base."
        ),
    ] = Field(None, description=f"the name of a model, of at most {MAX_NAME_CHARS} characters")


class WorkerOutcome(ResponseModel):
    """A worker's state after a load or an unload."""

    id: str
    device: str | None
    state: WorkerState


class ModelChanged(ResponseModel):
    """The model was loaded or unloaded on every worker."""

    success: bool
    message: str
    device: NotRequired[Annotated[str, Field(description="of a load")]]
    model_path: NotRequired[Annotated[str, Field(description="of a load")]]
    changed: NotRequired[
        Annotated[
            list[Literal["base", "adapter"]],
            Field(description="of a load: the parts that are new in memory, by the content of their files"),
        ]
    ]
    base_id: NotRequired[Annotated[str, Field(description="of a load: hash of the base model's files")]]
    adapter_id: NotRequired[Annotated[str, Field(description="of a load with an adapter: hash of the adapter's files")]]
    job_id: JobId
    workers: list[WorkerOutcome]


class Queue(ResponseModel):
    """The numbers of waiting and running generations."""

    waiting: Count
    running: Count


class ServedBase(ResponseModel):
    """One of several base models of the server."""

    name: str
    model_loaded: bool
    queue: Queue
    workers: Annotated[list[str], Field(description="the ids of its live workers")]


class Training(ResponseModel):
    """The live trainers, and the numbers of waiting and running training runs and evaluations."""

    trainers: Count
    waiting: Count
    running: Count


class Embedding(ResponseModel):
    """The model for embeddings, its live embedders, and the numbers of waiting and running jobs."""

    model: str
    embedders: Count
    waiting: Count
    running: Count


class Worker(ResponseModel):
    """A live worker."""

    id: str
    host: Annotated[str | None, Field(description="for admins only")]
    pid: Annotated[int | None, Field(description="for admins only")]
    device: str | None
    dtype: NotRequired[
        Annotated[str, Field(description="number format of the weights in memory, while it holds the model")]
    ]
    state: WorkerState
    running: Count
    slots: Annotated[Count, Field(description="maximum number of generations that it runs at once")]
    error: str | None


class Info(ResponseModel):
    """The server, its model and its workers."""

    model_loaded: bool
    device: str | None
    base_model: str | None
    lora_path: str | None
    cuda_available: bool
    mps_available: bool
    queue: Queue
    training: Training
    adapters: list[str]
    embedding: NotRequired[Annotated[Embedding, Field(description="only if there is a model for embeddings")]]
    bases: NotRequired[Annotated[list[ServedBase], Field(description="only if the server has several base models")]]
    workers: list[Worker]
    version: str


class Health(ResponseModel):
    """The result of a successful probe."""

    status: Literal["ok", "ready"]
