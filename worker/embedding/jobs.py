"""Runs `embed` jobs."""

from __future__ import annotations

from common.embedding.task import BYTES_PER_NUMBER, MAX_VECTOR_BYTES, EmbedParams, EmbedResult
from common.errors import InternalError, InvalidRequest, ModelNotFound
from common.jobs.job import JobState
from common.jobs.store import JobStore
from worker.embedding.metrics import EmbedderMetrics
from worker.engine.embedding.encoder import Encoder
from worker.engine.embedding.engine import EmbeddingEngine, Work
from worker.helper.given_up import GivenUp
from worker.jobs.active import ActiveJob, Outcome


class EmbedJobs:
    """Runs one claimed job.

    Args:
        store: the jobs.
        model: the name of the model.
        encoder: the model.
        engine: computes with it.
        metrics: counts what happens.
    """

    def __init__(
        self, store: JobStore, model: str, encoder: Encoder, engine: EmbeddingEngine, metrics: EmbedderMetrics
    ) -> None:
        self._store = store
        self._model = model
        self._encoder = encoder
        self._engine = engine
        self._metrics = metrics

    def run(self, job: ActiveJob) -> None:
        """Run the job to its end.

        Raises:
            ModelNotFound: it is for another model than this embedder's.
            InvalidRequest: the model cannot compute an input, or not in that length.
            GivenUp: the job was given up meanwhile.
            Fenced: another attempt owns the job.
        """
        if job.job.model != self._model:
            raise ModelNotFound(
                f"There is no model {job.job.model!r} for embeddings any more; it is {self._model!r} now.",
                param="model",
            )
        params = EmbedParams.from_dict(job.job.params)
        self._check_size(params)
        inputs = self._tokens(job, params)
        work = Work(job.job.owner, inputs, lambda: job.decide(Outcome.DONE))
        self._engine.submit(work)
        job.wait()
        if job.outcome is not Outcome.DONE:
            work.cancel()
            raise GivenUp
        if work.error is not None:
            raise InternalError("The vectors could not be computed; the server's log has the details.")
        self._succeed(job, params, work)

    def _check_size(self, params: EmbedParams) -> None:
        most = self._encoder.dimensions
        if params.dimensions is not None and params.dimensions > most:
            raise InvalidRequest(
                f"dimensions must be from 1 to {most} for the model {self._model!r}; got {params.dimensions}.",
                param="dimensions",
            )
        room = MAX_VECTOR_BYTES // ((params.dimensions or most) * BYTES_PER_NUMBER)
        if len(params.inputs) > room:
            raise InvalidRequest(
                f"input may have at most {room} items for the model {self._model!r}, whose vectors have "
                f"{params.dimensions or most} numbers; got {len(params.inputs)}.",
                param="input",
            )

    def _tokens(self, job: ActiveJob, params: EmbedParams) -> list[list[int]]:
        found: list[list[int]] = []
        for index, one in enumerate(params.inputs):
            if job.is_given_up:
                raise GivenUp
            param = f"input[{index}]" if len(params.inputs) > 1 else "input"
            found.append(self._encoder.tokens_of(one, param, prompt_name=params.prompt_name, truncate=params.truncate))
        return found

    def _succeed(self, job: ActiveJob, params: EmbedParams, work: Work) -> None:
        vectors = self._encoder.shortened(work.vectors, params.dimensions)
        tokens = sum(map(len, work.inputs))
        result = EmbedResult(vectors.numpy().astype("<f4").tobytes(), vectors.shape[1], tokens)
        self._store.succeed(job.id, job.attempt, result.to_dict(), [job.events.finished(JobState.SUCCEEDED)])
        self._metrics.note_end(job.age_s)
