"""OpenTelemetry traces, if OTEL_EXPORTER_OTLP_ENDPOINT is set. Otherwise nothing is loaded.

FastAPI makes the spans of requests as soon as there is a provider. OpenTelemetry's instrumentation
makes the spans of SQL statements, and this module makes the spans of jobs. A worker may claim a
different job than the message names. So each job has a separate trace, with the same `job_id` as
the trace of the job's request.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from service.settings.environment import SettingsError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_NAME = "perfusion"
# Use the current semantic conventions instead of the earlier ones.
_CONVENTIONS = ("OTEL_SEMCONV_STABILITY_OPT_IN", "database")


def enabled() -> bool:
    """Return whether the environment asks for traces."""
    return any(map(os.environ.get, _ENDPOINTS))


def configure(service_name: str) -> Callable[[], None]:
    """Send this process's traces to the endpoint; return the function that flushes the rest.

    Call this before connecting to the database, because only engines made later are traced.
    Headers, sampling and the service's name are set by OpenTelemetry's own variables.
    """
    if not enabled():
        return lambda: None
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, but their packages are missing. "
            "Install perfusion[tracing], or unset it."
        ) from error

    class Processor(BatchSpanProcessor):
        """Sends no error texts, because a driver's error text may contain values."""

        def on_end(self, span: ReadableSpan) -> None:
            span._status = trace.Status(span.status.status_code)
            super().on_end(span)

    os.environ.setdefault(*_CONVENTIONS)
    name = os.environ.get("OTEL_SERVICE_NAME", service_name)
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(Processor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    # The instrumentation does not list SQLAlchemy 2.1 as supported; a test shows that it works.
    SQLAlchemyInstrumentor().instrument(skip_dep_check=True)
    return provider.shutdown


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """Return a context whose duration is traced, together with every span inside it."""
    if not enabled():
        return nullcontext()
    from opentelemetry import trace

    return trace.get_tracer(_NAME).start_as_current_span(name, attributes=attributes)
