"""The data of the events of a job's stream."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field, RootModel

from api.schemas.errors import ErrorFrame
from api.schemas.generated import ScoredToken
from api.schemas.response_model import ResponseModel
from api.schemas.training import TrainingCheckpoint, TrainingProgress, TrainingSample


class StatusFrame(ResponseModel):
    """A line for people, and the job's queue position while it waits."""

    status: str
    position: NotRequired[int]
    estimated_wait_s: NotRequired[float | None]


class TextFrame(ResponseModel):
    """The next piece of the answer."""

    text: str
    full_text: Annotated[str, Field(description="the answer so far")]
    is_complete: bool
    logprobs: NotRequired[list[ScoredToken]]


class EndFrame(ResponseModel):
    """The last frame of a job that did not fail."""

    status: str
    device_used: str | None


class ProgressFrame(ResponseModel):
    """A line for people, and the progress of a training run or an evaluation."""

    status: str
    progress: TrainingProgress


class SampleFrame(ResponseModel):
    """A line for people, and what the model in training answers now."""

    status: str
    sample: TrainingSample


class CheckpointFrame(ResponseModel):
    """A line for people, and the checkpoint that a training run has reached."""

    status: str
    checkpoint: TrainingCheckpoint


FrameData = TextFrame | StatusFrame | ProgressFrame | SampleFrame | CheckpointFrame | EndFrame | ErrorFrame


class Frame(RootModel[FrameData]):
    """The data of an event of a job's stream."""
