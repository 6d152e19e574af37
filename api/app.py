"""The composition of the HTTP application in a single function, without globals."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from api import embedded as embedded_worker
from api import openapi, openapi_for_clients, pages, problems
from api.access.auth_cache import AuthCache
from api.dependencies import State
from api.limits import concurrency
from api.limits.rate import Limiter
from api.metrics import Metrics
from api.middleware import BodyLimit, HeadAsGet, RequestContext
from api.routes import (
    base_model,
    changes,
    concepts,
    curves,
    generate,
    health,
    images,
    jobs,
    openai,
    pictures,
    trainings,
)
from api.signed_urls import SignedUrls
from api.uploads import forms
from perfusion_core.imaging.provenance import product_version
from service import auth
from service.wiring import Service
from worker.reconciler import Reconciler

_MAX_JSON_BYTES = 1024**2
# Separate limits on threads, so that calls that hang delay only calls of the same kind.
_DECODING_THREADS = 4
_IMPORT_THREADS = 2
_FILE_THREADS = 16
_CHECK_THREADS = 8


def create_app(
    service: Service, *, embedded: bool, repair: bool = False, key_required: bool | None = None
) -> FastAPI:
    """Return the application over `service`; `embedded` also runs a worker inside this process.

    `repair` runs a reconciler without a worker, so that a lost job is found even if no worker is
    left. The caller that binds the socket knows its address and passes `key_required`. Without
    `key_required` the settings decide. The setting `auto` then assumes a loopback address.
    """
    settings = service.settings
    metrics = Metrics(service)
    limiter = Limiter(
        requests_per_minute=settings.requests_per_minute,
        queue_url=settings.queue_url,
        metrics=metrics,
    )
    state = State(
        service=service,
        uploads=CapacityLimiter(_DECODING_THREADS),
        imports=CapacityLimiter(_IMPORT_THREADS),
        files=CapacityLimiter(_FILE_THREADS),
        checks=CapacityLimiter(_CHECK_THREADS),
        auth_cache=AuthCache(service),
        limiter=limiter,
        concurrency=concurrency.limits(
            spool_bytes=settings.spool_bytes,
            max_body_bytes=settings.max_body_bytes,
            refused=metrics.limited,
        ),
        signed_urls=SignedUrls(settings),
        metrics=metrics,
        key_required=auth.required(settings, host="127.0.0.1")
        if key_required is None
        else key_required,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            if embedded:
                await stack.enter_async_context(embedded_worker.running(service))
            elif repair:
                repairs = Reconciler(service)
                repairs.start()
                stack.push_async_callback(run_in_threadpool, repairs.stop)
            yield state

    app = FastAPI(
        title=openapi.TITLE,
        version=product_version(),
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=openapi_for_clients.operation_id,
        # Only spans of requests, if service.tracing has set up a provider; logs have their own
        # module.
        telemetry={"metrics": False, "logs": False, "operation_spans": False},
    )
    _describe(app, key_required=state["key_required"])
    problems.install(app)
    # The middleware added last is the outermost.
    app.add_middleware(
        BodyLimit,
        json_bytes=min(_MAX_JSON_BYTES, settings.max_body_bytes),
        upload_bytes={
            "/concepts": settings.max_body_bytes,
            "/pictures/check": settings.max_body_bytes,
            "/v1/images/edits": settings.max_body_bytes,
            "/generate": settings.max_body_bytes,
            "/concepts/import": min(forms.MAX_IMPORT_BYTES, settings.max_body_bytes),
        },
        takes_json={"/generate"},
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=openapi.REQUEST_HEADERS,
            expose_headers=openapi.ANSWER_HEADERS,
        )
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestContext, metrics=metrics)
    # Each request tries them in this order.
    app.include_router(generate.forms)
    for routes in (
        generate,
        jobs,
        images,
        concepts,
        changes,
        pictures,
        trainings,
        curves,
        base_model,
        openai,
        health,
    ):
        app.include_router(routes.router)
    pages.add(app, browser_page=settings.browser_page_dir)
    return app


def _describe(app: FastAPI, *, key_required: bool) -> None:
    """Complete the generated OpenAPI; on loopback `{}` marks the key as optional."""
    generate = app.openapi

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = openapi_for_clients.for_clients(generate())
            for methods in document["paths"].values():
                for operation in methods.values():
                    if "security" in operation and not key_required:
                        operation["security"].append({})
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # the framework's documented way
