"""A client of the SLM server: blocking and asynchronous, with streams that reconnect automatically.

with SLMClient("http://127.0.0.1:5000") as slm:
    print(slm.generate("What is the capital of France?").response)
    for piece in slm.stream("Tell me a joke").text():
        print(piece, end="", flush=True)
"""

from slm_client.adapter import Adapter, Alias
from slm_client.answer import Answer
from slm_client.async_client import AsyncSLMClient
from slm_client.async_stream import AsyncStream
from slm_client.chat import ChatAnswer, ToolCall
from slm_client.client import SLMClient
from slm_client.conversation import Conversation, Message
from slm_client.errors import ApiError, BadAnswer, ConnectionLost, SLMClientError
from slm_client.feedback import Feedback, FeedbackPage
from slm_client.frame import Finished, Frame, Queued, Status, Text
from slm_client.job import Job, JobStatus
from slm_client.model import Model
from slm_client.options import GenerateOptions
from slm_client.retry import RetryPolicy
from slm_client.stream import Stream

__all__ = [
    "Adapter",
    "Alias",
    "Answer",
    "ApiError",
    "AsyncSLMClient",
    "AsyncStream",
    "BadAnswer",
    "ChatAnswer",
    "ConnectionLost",
    "Conversation",
    "Feedback",
    "FeedbackPage",
    "Finished",
    "Frame",
    "GenerateOptions",
    "Job",
    "JobStatus",
    "Message",
    "Model",
    "Queued",
    "RetryPolicy",
    "SLMClient",
    "SLMClientError",
    "Status",
    "Stream",
    "Text",
    "ToolCall",
]
