"""POST /generate: accept a prompt, return a job, or the result with `Prefer: wait=N`."""

from contextlib import nullcontext
from typing import Annotated

from fastapi import APIRouter, Body, Header, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from api import events
from api.dependencies import Generator, OptionalIdempotency, state_of
from api.openapi import ACCEPTED_HEADERS, GENERATE_EXAMPLES, headers, refusals
from api.routes.guarded import GuardedRoute
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs.views import JobAnswer

router = APIRouter(tags=["generation"], route_class=GuardedRoute)


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
)
async def generate(
    request: Request,
    caller: Generator,
    idempotency: OptionalIdempotency,
    body: Annotated[GenerateRequest, Body(openapi_examples=GENERATE_EXAMPLES)],
    prefer: Annotated[
        str | None,
        Header(description="`wait=N`: answer when the job ends, or after N seconds (at most 60)."),
    ] = None,
) -> JSONResponse:
    """Generate images from a prompt that names concepts by placeholder.

    `concepts` sets the strength of each concept.
    The same request with the same seed gives the same pixels on the same machine and settings.
    """
    state = state_of(request)
    service = state["service"]
    seconds = events.wait_seconds(prefer)
    with state["concurrency"].waits.hold(caller) if seconds else nullcontext():
        answer = await run_in_threadpool(
            generations.request, service, caller, body=body, idempotency=idempotency
        )
        answer_headers = {"Location": answer.location}
        if answer.replayed:
            answer_headers["Idempotency-Replayed"] = "true"
        if seconds:
            answer_headers["Preference-Applied"] = f"wait={seconds}"
            job_id = answer.body["job"]["id"]
            job = await events.wait_for_end(
                request, service, caller, job_id=job_id, seconds=seconds
            )
            if job is not None:
                return JSONResponse(
                    {"job": state["signed_urls"].to_json(job)}, headers=answer_headers
                )
    return JSONResponse(answer.body, status_code=202, headers=answer_headers)
