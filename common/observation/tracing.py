"""Starts tracing if it is configured. Only then is OpenTelemetry imported (`common.observation.otel`)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from common.settings import Settings, SettingsError

if TYPE_CHECKING:
    from common.observation.otel import Tracer

_EXPORTER = "opentelemetry.exporter.otlp.proto.http"


def check_tracing(settings: Settings) -> None:
    """Check that tracing can work if it is configured.

    Raises:
        SettingsError: the required packages are not installed.
    """
    if settings.otlp_endpoint is not None and not _is_installed():
        raise SettingsError(
            "SLM_OTLP_ENDPOINT is set, but the OpenTelemetry packages are not installed: "
            "pip install -r requirements/tracing.txt"
        )


def start_tracing(settings: Settings, service: str) -> Tracer | None:
    """Return the process's tracer, named `service`; None if tracing is off. Raises as `check_tracing`."""
    check_tracing(settings)
    if settings.otlp_endpoint is None:
        return None
    from common.observation.otel import Tracer

    return Tracer.exporting_to(settings.otlp_endpoint, service)


def _is_installed() -> bool:
    try:
        return find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:  # the parent package is missing, too
        return False
