"""Builds the Flask application."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import Flask, Response
from flask.json.provider import DefaultJSONProvider
from redis import Redis
from werkzeug.middleware.proxy_fix import ProxyFix

from api.anthropic.routes import anthropic
from api.audit import register_audit
from api.auth.keyring import Keyring
from api.auth.open_streams import OpenStreams
from api.auth.rates import Rates
from api.current import EXTENSION, Services
from api.embedding.model import EmbeddingModel
from api.error_handlers import register_error_handlers
from api.fingerprints import Fingerprints
from api.gate import register_gate
from api.http.body_deadline import BodyDeadline
from api.http.concurrency import ConcurrencyLimiter, Presence
from api.http.cors import register_cors
from api.http.hooks import register_hooks
from api.http.static_files import send_file_of
from api.http.tidy_path import TidyPath
from api.jobs.queue_position import QueueWatcher
from api.jobs.readers import Readers
from api.jobs.sse import sse
from api.llama_cpp.routes import llama_cpp
from api.observation.access_log import AccessLog
from api.observation.exchange import observe
from api.observation.metrics import ApiMetrics
from api.observation.spans import ServerSpans
from api.observation.starvation import Starvation
from api.ollama.routes import ollama
from api.openai.batches.files import files
from api.openai.batches.routes import batches
from api.openai.conversations.routes import openai_conversations
from api.openai.fine_tuning.routes import fine_tuning
from api.openai.responses.routes import responses
from api.openai.routes import openai
from api.overview import Overview
from api.routes.adapters import adapters
from api.routes.audit import audit
from api.routes.conversations import conversations
from api.routes.datasets import datasets
from api.routes.feedback import feedback
from api.routes.health import health
from api.routes.jobs import jobs
from api.routes.keys import api_keys
from api.routes.metrics import metrics as metrics_routes
from api.routes.pages import pages
from api.routes.quarantine import quarantine
from api.routes.reference import reference
from api.routes.settings import shown_settings
from api.routes.slm import slm
from api.routes.tokens import tokens
from api.routes.training import training
from api.routes.usage import usage
from api.routes.worker_files import worker_files
from api.service import JobService
from api.vllm.routes import vllm
from common.adapters.registry import AdapterRegistry
from common.adapters.store import AdapterStore
from common.adapters.uploads import Uploads
from common.conversations.conversation import Quota
from common.conversations.store import ConversationStore
from common.embedding.embedders import Embedders
from common.fleet import Fleet
from common.jobs.event_log import EventLog
from common.jobs.store import Dispatch, JobStore
from common.owners.api_keys import ApiKeyStore
from common.owners.audit_log import AuditLog
from common.owners.batches import BatchStore
from common.owners.feedback import FeedbackStore
from common.owners.files import FileStore
from common.redis.subscriber import Subscriber
from common.settings import Settings
from common.training.trainers import Trainers

if TYPE_CHECKING:
    from common.observation.otel import Tracer

YEAR_S = 31_536_000


class _App(Flask):
    def get_send_file_max_age(self, filename: str | None) -> int | None:
        """Let browsers keep a file for a year if its name includes its version or a hash of its content."""
        is_versioned = filename is not None and filename.startswith(("vendor/", "app/assets/"))
        return YEAR_S if is_versioned else super().get_send_file_max_age(filename)

    def send_static_file(self, filename: str) -> Response:
        return send_file_of(cast(str, self.static_folder), filename, self.get_send_file_max_age(filename))


def create_app(
    settings: Settings,
    *,
    redis: Redis,
    dispatch: Dispatch,
    subscriber: Subscriber,
    metrics: ApiMetrics | None = None,
    tracer: Tracer | None = None,
) -> Flask:
    """Build the application. It opens no connection; `subscriber` must be started before the first request.

    Args:
        settings: the settings of this process.
        redis: client for everything except the subscription.
        dispatch: sends the wake-up messages of dispatched jobs.
        subscriber: the process's one subscription.
        metrics: the metrics of the process, if something was counted before.
        tracer: creates the spans, if tracing is on.
    """
    metrics = metrics or ApiMetrics()
    app = _App(__name__)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    cast(DefaultJSONProvider, app.json).sort_keys = False
    app.extensions[EXTENSION] = _services(settings, redis, dispatch, subscriber, metrics)
    observe(app, [*([ServerSpans(tracer)] if tracer else []), AccessLog(), metrics])
    app.wsgi_app = TidyPath(BodyDeadline(app.wsgi_app, settings.body_timeout_s))  # type: ignore[method-assign]
    if settings.proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.proxies, x_proto=settings.proxies)  # type: ignore[method-assign]
    register_hooks(app)
    register_cors(app, settings.allowed_origins)
    register_gate(app)
    register_audit(app)
    register_error_handlers(app)
    for blueprint in (
        slm,
        tokens,
        training,
        adapters,
        jobs,
        quarantine,
        usage,
        api_keys,
        audit,
        shown_settings,
        sse,
        health,
        metrics_routes,
        reference,
        pages,
    ):
        app.register_blueprint(blueprint)
    for blueprint in (
        openai,
        responses,
        files,
        batches,
        fine_tuning,
        vllm,
        llama_cpp,
        ollama,
        anthropic,
        datasets,
        feedback,
        conversations,
        openai_conversations,
        worker_files,
    ):
        app.register_blueprint(blueprint)
    return app


def _services(
    settings: Settings, redis: Redis, dispatch: Dispatch, subscriber: Subscriber, metrics: ApiMetrics
) -> Services:
    store = JobStore(
        redis,
        dispatch,
        job_ttl_s=settings.job_ttl_s,
        context=settings.context,
        replicas=settings.redis_replicas,
    )
    grace_s = settings.reader_grace_s
    readers = Readers(lambda is_read: store.note_readers(is_read, grace_s), grace_s)
    log = EventLog(redis, subscriber)
    fleet, embedders, registry = Fleet(redis), Embedders(redis), AdapterRegistry(redis)
    api_keys = ApiKeyStore(redis)
    keyring = Keyring(api_keys, allows_anonymous=settings.allows_anonymous)
    watcher, presence = QueueWatcher(store.queue_positions), Presence()
    read_limiter, short_limiter = ConcurrencyLimiter(presence), ConcurrencyLimiter(presence, only_beside_others=True)
    jobs = JobService(
        store,
        log,
        readers,
        watcher,
        read_limiter,
        limits_of=keyring.limits_of,
        max_queue=settings.max_queue,
        max_prompt_chars=settings.max_prompt_chars,
    )
    return Services(
        settings,
        redis,
        jobs,
        Overview(fleet, Trainers(redis), embedders, store, settings),
        keyring,
        Rates.of_all_processes(redis, "requests"),
        Rates.of_this_process("read-only requests"),
        OpenStreams(),
        read_limiter,
        short_limiter,
        ConcurrencyLimiter(None),
        metrics,
        Starvation(),
        FileStore(redis, ttl_s=settings.file_ttl_s),
        BatchStore(redis, ttl_s=settings.file_ttl_s),
        FeedbackStore(redis, ttl_s=settings.feedback_ttl_s),
        _conversations(settings, redis),
        registry,
        Uploads(settings.data_dir / "uploads"),
        AdapterStore(settings.data_dir / "adapters"),
        Fingerprints(fleet.workers),
        EmbeddingModel(embedders, registry, settings.embed_name),
        api_keys,
        AuditLog(redis),
    )


def _conversations(settings: Settings, redis: Redis) -> ConversationStore:
    quota = Quota(settings.max_conversations, settings.max_messages, int(settings.conversation_memory))
    return ConversationStore(redis, quota=quota, ttl_s=settings.conversation_ttl_s)
