"""The client for asyncio and trio: `client.py` with `await`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Unpack

import anyio
import httpx

from slm_client import call, connection
from slm_client.adapter import Adapter, Alias, archive_of
from slm_client.answer import Answer
from slm_client.async_stream import AsyncStream
from slm_client.call import Call
from slm_client.chat import ChatAnswer
from slm_client.conversation import Conversation, Message
from slm_client.cursor import StreamCursor
from slm_client.embedding import vectors
from slm_client.errors import SLMClientError, error_from_response
from slm_client.feedback import Feedback, FeedbackPage
from slm_client.job import Job, JobStatus
from slm_client.model import Model
from slm_client.options import GenerateOptions
from slm_client.patience import Patience
from slm_client.retry import NO_RETRY, Retry, RetryPolicy


class AsyncSLMClient:
    """Like `SLMClient`, for `async with`."""

    def __init__(
        self,
        url: str = connection.DEFAULT_URL,
        *,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._policy = retry or RetryPolicy()
        self._http = httpx.AsyncClient(**connection.setup(url, api_key), transport=transport)

    async def __aenter__(self) -> AsyncSLMClient:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def info(self) -> Mapping[str, Any]:
        """Return the server's state: model, device, queue, workers."""
        return connection.read(await self._send(call.info()), dict)

    async def load(self) -> None:
        """Load the model on every worker."""
        await self._change_model("load")

    async def unload(self) -> None:
        """Unload the model on every worker to free its memory."""
        await self._change_model("unload")

    async def _change_model(self, what: str) -> None:
        response = await self._send(call.change_model(what))
        if response.status_code == httpx.codes.ACCEPTED:
            accepted = connection.read(response, Job.from_body)
            (await self._last_look(accepted.id, timeout_s=None)).raise_for_failure()

    async def generate(
        self, prompt: str, *, idempotency_key: str | None = None, **options: Unpack[GenerateOptions]
    ) -> Answer:
        """Return the complete answer, however long it takes."""
        response = await self._send(call.generate(prompt, options, idempotency_key))
        if response.status_code == httpx.codes.ACCEPTED:
            return await self.wait(connection.read(response, Job.from_body).id)
        return connection.read(response, Answer.from_body)

    def stream(
        self, prompt: str, *, idempotency_key: str | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncStream:
        """Return the answer as a stream. The request is sent when the first piece is read."""
        return AsyncStream(self._http, StreamCursor(call.stream(prompt, options, idempotency_key)), self._policy)

    def follow(self, job_id: str, *, last_event_id: str | None = None) -> AsyncStream:
        """Return the stream of an existing job, from its beginning or after the given event."""
        cursor = StreamCursor(call.follow(job_id, last_event_id), job_id=job_id, last_event_id=last_event_id)
        return AsyncStream(self._http, cursor, self._policy)

    async def submit(
        self, prompt: str, *, idempotency_key: str | None = None, **options: Unpack[GenerateOptions]
    ) -> Job:
        """Start a job in the background; use its id with `wait`, `job` and `follow`."""
        return connection.read(await self._send(call.submit(prompt, options, idempotency_key)), Job.from_body)

    async def job(self, job_id: str) -> Job:
        """Return a job's current state."""
        return connection.read(await self._send(call.show(job_id)), Job.from_body)

    async def jobs(self, limit: int = 100, *, text: str | None = None) -> list[Job]:
        """Return the newest jobs; those with a text in their id, model or owner, or in the prompt of one of yours."""
        return connection.read(await self._send(call.newest(limit, text)), Job.from_listing)

    async def wait(self, job_id: str, *, timeout_s: float | None = None) -> Answer:
        """Poll a job until it has ended, and return its answer.

        Raises:
            ApiError: it failed or was cancelled.
            TimeoutError: it has not ended after `timeout_s` seconds.
        """
        return (await self._last_look(job_id, timeout_s)).outcome()

    async def _last_look(self, job_id: str, timeout_s: float | None) -> Job:
        patience = Patience(timeout_s)
        while not (job := await self.job(job_id)).is_over:
            await anyio.sleep(patience.pause_s(job))
        return job

    async def cancel(self, job_id: str) -> JobStatus:
        """Cancel a job and return its status; RUNNING means that it will end at its next token."""
        return connection.read(await self._send(call.cancel(job_id)), Job.from_body).status

    async def give_feedback(self, job_id: str, **judgement: Any) -> Feedback:
        """Keep what you think of an answer, in place of what you said before: `rating`, `correction`, `tags`."""
        return connection.read(await self._send(call.give_feedback(job_id, judgement)), Feedback.from_body)

    async def feedback(self, job_id: str) -> Feedback:
        """Return the feedback on a job."""
        return connection.read(await self._send(call.feedback(job_id)), Feedback.from_body)

    async def delete_feedback(self, job_id: str) -> None:
        """Delete the feedback on a job."""
        await self._send(call.delete_feedback(job_id))

    async def feedback_page(self, **wanted: Any) -> FeedbackPage:
        """Return a page of the feedback on your jobs: `rating`, `tags`, `model`, `since`, `until`, `limit`, `after`."""
        return connection.read(await self._send(call.feedback_page(wanted)), FeedbackPage.from_body)

    async def feedback_dataset(self, **wanted: Any) -> Mapping[str, Any]:
        """Make a dataset of feedback, a file for `train`: `kind` ("pairs", "preferences"), and as `feedback_page`."""
        return connection.read(await self._send(call.feedback_dataset(wanted)), dict)

    async def models(self) -> list[Model]:
        """Return everything that a request can name."""
        return connection.read(await self._send(call.models()), Model.from_listing)

    async def adapters(self) -> list[Adapter]:
        """Return all adapters with their versions."""
        return connection.read(await self._send(call.adapters()), Adapter.from_listing)

    async def adapter(self, name: str) -> Adapter:
        """Return an adapter, or one of its versions ("support@3")."""
        return connection.read(await self._send(call.adapter(name)), Adapter.from_body)

    async def publish(self, name: str, path: str | Path, *, base: str | None = None) -> Adapter:
        """Publish a PEFT folder, or an archive with one, as the newest version of `name`.

        `base` is the base model that it fits, if the server has several.
        """
        response = await self._send(call.publish(name, archive_of(path), base))
        if response.status_code != httpx.codes.ACCEPTED:
            return connection.read(response, Adapter.from_body)
        accepted = connection.read(response, Job.from_body)
        (await self._last_look(accepted.id, timeout_s=None)).raise_for_failure()
        return await self.adapter(name)

    async def delete_adapter(self, name: str) -> None:
        """Delete an adapter, or one of its versions."""
        await self._send(call.delete_adapter(name))

    async def aliases(self) -> list[Alias]:
        """Return all aliases."""
        return connection.read(await self._send(call.aliases()), Alias.from_listing)

    async def set_alias(self, alias: str, model: str) -> Alias:
        """Point an alias to what the name `model` stands for now."""
        return connection.read(await self._send(call.set_alias(alias, model)), Alias.from_body)

    async def roll_back(self, alias: str) -> Alias:
        """Point an alias to what it pointed to before. Not repeated if the connection breaks."""
        return connection.read(await self._send(call.roll_back(alias)), Alias.from_body)

    async def delete_alias(self, alias: str) -> None:
        """Delete an alias."""
        await self._send(call.delete_alias(alias))

    async def embed(
        self, texts: Sequence[str], *, idempotency_key: str | None = None, **options: Any
    ) -> list[list[float]]:
        """Return the vector of each text. Options are those of OpenAI's embeddings: `model`, `dimensions`."""
        return connection.read(await self._send(call.embed(texts, options, idempotency_key)), vectors)

    async def chat(
        self, messages: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None, **options: Any
    ) -> ChatAnswer:
        """Return the assistant's next message. Options are those of OpenAI's chat completions, such as `tools`."""
        return connection.read(await self._send(call.chat(messages, options, idempotency_key)), ChatAnswer.from_body)

    async def train(
        self,
        name: str,
        data: Sequence[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Job:
        """Train the adapter `name` on examples, in the background; the server's docs/training.md has the options."""
        return connection.read(await self._send(call.train(name, data, options, idempotency_key)), Job.from_body)

    async def create_conversation(self, *, idempotency_key: str | None = None, **about: Any) -> Conversation:
        """Create a conversation: `title`, `system_prompt`, `model`, `settings`, `metadata`.

        The same key always returns the same conversation, as long as there is one.
        """
        return connection.read(
            await self._send(call.create_conversation(about, idempotency_key)), Conversation.from_body
        )

    async def conversations(
        self, *, limit: int = 20, after: str | None = None, text: str | None = None
    ) -> list[Conversation]:
        """Return your conversations, the latest change first; only those with the text, if one is given."""
        return connection.read(await self._send(call.conversations(limit, after, text)), Conversation.from_listing)

    async def conversation(self, conversation_id: str) -> Conversation:
        """Return a conversation with its messages."""
        return connection.read(await self._send(call.conversation(conversation_id)), Conversation.from_body)

    async def change_conversation(self, conversation_id: str, **changes: Any) -> Conversation:
        """Change a conversation, or choose its `leaf_id`."""
        return connection.read(
            await self._send(call.change_conversation(conversation_id, changes)), Conversation.from_body
        )

    async def delete_conversation(self, conversation_id: str) -> None:
        """Delete a conversation."""
        await self._send(call.delete_conversation(conversation_id))

    async def export_conversation(self, conversation_id: str, form: Literal["json", "markdown"] = "json") -> str:
        """Return everything in a conversation as JSON, or the messages that are shown as Markdown."""
        return (await self._send(call.export_conversation(conversation_id, form))).text

    async def import_conversation(self, exported: str) -> Conversation:
        """Create a conversation from an export in JSON. Not repeated if the connection breaks."""
        return connection.read(await self._send(call.import_conversation(exported)), Conversation.from_body)

    async def append(self, conversation_id: str, content: str, *, role: str = "user", **more: Any) -> Message:
        """Append a message; `parent_id` says which it follows, if not the one that is shown last."""
        message = {"role": role, "content": content, **more}
        return connection.read(await self._send(call.append(conversation_id, message)), Message.from_body)

    async def respond(
        self,
        conversation_id: str,
        text: str,
        *,
        parent_id: str | None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Job:
        """Answer a text in a conversation, in the background; follow the job, the id of which is returned.

        The messages up to `parent_id` (None: none of them) come before the text, which is added to the conversation
        together with the answer. Options are those of OpenAI's responses, such as `max_output_tokens`.
        """
        response = await self._send(call.respond(conversation_id, parent_id, text, options, idempotency_key))
        return connection.read(response, Job.from_response)

    async def delete_message(self, conversation_id: str, message_id: str, *, keep_replies: bool = False) -> None:
        """Delete a message, and all after it unless they are kept."""
        await self._send(call.delete_message(conversation_id, message_id, keep_replies=keep_replies))

    async def change_message(self, conversation_id: str, message_id: str, **changes: Any) -> Message:
        """Change a message's `content` or `rating`."""
        return connection.read(
            await self._send(call.change_message(conversation_id, message_id, changes)), Message.from_body
        )

    async def _send(self, wanted: Call) -> httpx.Response:
        retry = Retry(self._policy if wanted.is_safe else NO_RETRY)
        while True:
            try:
                response = await self._http.send(wanted.request(self._http))
                if response.is_success:
                    return response
                raise error_from_response(response)
            except (httpx.TransportError, SLMClientError) as failure:
                await anyio.sleep(retry.pause_s(failure))
