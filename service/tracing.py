"""Traces by OpenTelemetry, for those who set OTEL_EXPORTER_OTLP_ENDPOINT. Else nothing is loaded.

FastAPI makes the span of a request by itself as soon as there is a provider; those of statements
and jobs are made here. A message to a worker names no job that it will surely take, so a job's
trace is its own, and `job_id` is what it shares with the request's.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Engine, ExecutionContext, event

from service.settings.environment import SettingsError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_NAME = "perfusion"


def enabled() -> bool:
    """Whether somebody wants traces."""
    return any(map(os.environ.get, _ENDPOINTS))


def configure(service_name: str) -> Callable[[], None]:
    """Send what this process does to the endpoint; the function returned sends the rest.

    Headers, sampling and the service's name follow OpenTelemetry's own variables.
    """
    if not enabled():
        return lambda: None
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and the packages for them are missing. "
            "Install perfusion[tracing], or unset it."
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME", service_name)
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    event.listen(Engine, "before_cursor_execute", _begin_statement)
    event.listen(Engine, "after_cursor_execute", _end_statement)
    event.listen(Engine, "handle_error", _fail_statement)
    return provider.shutdown


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """A context whose duration is traced, with whatever is traced inside it."""
    if not enabled():
        return nullcontext()
    from opentelemetry import trace

    return trace.get_tracer(_NAME).start_as_current_span(name, attributes=attributes)


def _begin_statement(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    from opentelemetry import trace

    # The statement, whose values are placeholders; never the values.
    attributes = {"db.system.name": connection.dialect.name, "db.query.text": statement}
    name = statement.lstrip().partition(" ")[0]
    kind = trace.SpanKind.CLIENT
    context.perfusion_span = trace.get_tracer(_NAME).start_span(
        name, kind=kind, attributes=attributes
    )


def _end_statement(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    context.perfusion_span.end()


def _fail_statement(failure: Any) -> None:
    context: ExecutionContext | None = failure.execution_context
    started = getattr(context, "perfusion_span", None)
    if started is not None:
        started.set_attribute("error.type", type(failure.original_exception).__name__)
        started.end()
