"""POST /generate: accept a prompt, return a job, or the result with `Prefer: wait=N`.

The body is JSON, or a form with the picture of an edit. Each has a route of its own, because the
framework reads a body of JSON by itself, and a form is read part by part.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Header, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from api import events
from api.accepted import accepted_headers
from api.dependencies import Generator, OptionalIdempotency, StateDep, state_of
from api.openapi import ACCEPTED_HEADERS, GENERATE_EXAMPLES, headers, refusals
from api.routes.guarded import GuardedRoute
from api.uploads import form_fields, places
from api.uploads.edit_forms import GenerateForm, generate_form
from api.uploads.openapi_forms import EDIT_FORM
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.idempotency import Answer
from service.jobs.views import JobAnswer
from service.pictures import edit_uploads

router = APIRouter(tags=["generation"], route_class=GuardedRoute)


class _FormRoute(APIRoute):
    """A route for requests whose body is a multipart form."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as every route does, but no request with another body."""
        if scope["type"] == "http" and not form_fields.is_form(Headers(scope=scope)):
            return Match.NONE, {}
        return super().matches(scope)


forms = APIRouter(route_class=_FormRoute)


async def _wait_seconds(
    prefer: Annotated[
        str | None,
        Header(description="`wait=N`: answer when the job ends, or after N seconds (at most 60)."),
    ] = None,
) -> int | None:
    return events.wait_seconds(prefer)


WaitSeconds = Annotated[int | None, Depends(_wait_seconds)]


@forms.post("/generate", include_in_schema=False)
async def edit_picture(
    request: Request,
    state: StateDep,
    caller: Generator,
    idempotency: OptionalIdempotency,
    seconds: WaitSeconds,
) -> JSONResponse:
    """Generate images that start from an uploaded picture; OpenAPI has it with `generate`."""
    service = state["service"]

    def accept(form: GenerateForm) -> Answer:
        with edit_uploads.reading(service, picture=form.image, mask=form.mask_image) as upload:
            return generations.request(
                service, caller, body=form.body, upload=upload, idempotency=idempotency
            )

    with _waiting(request, caller, seconds):
        # The place of an upload is free again before the images are waited for.
        await places.check_room(request, state, caller)
        with places.hold(request, state, caller):
            async with generate_form(request, settings=service.settings) as form:
                answer = await to_thread.run_sync(accept, form, limiter=state["uploads"])
        return await _answer(request, caller, answer=answer, seconds=seconds)


@router.post(
    "/generate",
    status_code=202,
    summary="Generate images",
    response_model=JobAnswer,
    responses={
        200: {
            "description": "With `Prefer: wait=N`: the job has ended in time.",
            "model": JobAnswer,
            "headers": ACCEPTED_HEADERS | headers(Preference_Applied="`wait=N`."),
        },
        202: {"description": "Accepted.", "headers": ACCEPTED_HEADERS},
        **refusals(400, 404, 408, 409, 413, 415, 507),
    },
    openapi_extra=EDIT_FORM,
)
async def generate(
    request: Request,
    caller: Generator,
    idempotency: OptionalIdempotency,
    body: Annotated[GenerateRequest, Body(openapi_examples=GENERATE_EXAMPLES)],
    seconds: WaitSeconds,
) -> JSONResponse:
    """Generate images from a prompt that names concepts by placeholder, or edit a picture.

    `concepts` sets the strength of each concept. An edit starts from `image`: send a form for a
    picture of yours, or JSON for a generated image.
    The same request with the same seed gives the same pixels on the same machine and settings.
    """
    service = state_of(request)["service"]
    with _waiting(request, caller, seconds):
        answer = await run_in_threadpool(
            generations.request, service, caller, body=body, idempotency=idempotency
        )
        return await _answer(request, caller, answer=answer, seconds=seconds)


@contextmanager
def _waiting(request: Request, caller: str, seconds: int | None) -> Iterator[None]:
    """Hold one of the caller's places for requests that wait, if this one is to wait."""
    if seconds:
        with state_of(request)["concurrency"].waits.hold(caller):
            yield
    else:
        yield


async def _answer(
    request: Request, caller: str, *, answer: Answer, seconds: int | None
) -> JSONResponse:
    """Answer with the job, after it has ended if it ends in `seconds`."""
    state = state_of(request)
    answer_headers = accepted_headers(answer)
    if seconds:
        answer_headers["Preference-Applied"] = f"wait={seconds}"
        job = await events.wait_for_end(
            request,
            state["service"],
            caller,
            job_id=answer.body["job"]["id"],
            seconds=seconds,
        )
        if job is not None:
            return JSONResponse({"job": state["signed_urls"].to_json(job)}, headers=answer_headers)
    return JSONResponse(answer.body, status_code=202, headers=answer_headers)
