"""Jobs: list, look at, follow, cancel, finish early; and the preview picture of a training."""

import hashlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api import events
from api.dependencies import (
    Authorization,
    Canceller,
    JobList,
    Reader,
    StateDep,
    StreamPlace,
    Trainer,
    may_read,
    with_blobs,
)
from api.files import FORGET, IfNoneMatch, file_answer, file_responses, picture_answer
from api.openapi import FORGOTTEN_HEADERS, JOB_EVENT, refusals
from service.jobs import deletion, finishing, live_previews, sheets
from service.jobs import use_cases as jobs
from service.jobs.views import EventPreviews, JobView
from service.pages import Page

router = APIRouter(tags=["jobs"])

KEEP_ALIVE_SECONDS = 15


@router.get("/jobs", summary="List jobs", response_model=Page[JobView], responses=refusals())
def list_jobs(state: StateDep, caller: Reader, query: JobList) -> JSONResponse:
    """Newest first."""
    page = jobs.list_page(
        state["service"],
        caller,
        limit=query.limit,
        cursor=query.cursor,
        status=query.status,
        kind=query.kind,
    )
    items = [state["signed_urls"].to_json(job) for job in page.items]
    return JSONResponse({"items": items, "next_cursor": page.next_cursor})


@router.get("/jobs/{id}", summary="Look at a job", response_model=JobView, responses=refusals(404))
def get_job(state: StateDep, caller: Reader, id: str) -> JSONResponse:
    """Return the job as it is now: progress, place in the queue, images or error."""
    return JSONResponse(state["signed_urls"].to_json(jobs.get(state["service"], caller, job_id=id)))


@router.post(
    "/jobs/{id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_model=JobView,
    responses=refusals(404, 409),
)
async def cancel_job(state: StateDep, caller: Canceller, id: str) -> JSONResponse:
    """Cancel a job: a queued job at once, a running job within a step. 409 if the job has ended."""
    job = await with_blobs(state, lambda: jobs.cancel(state["service"], caller, job_id=id))
    return JSONResponse(state["signed_urls"].to_json(job), status_code=202)


@router.post(
    "/jobs/{id}/finish",
    status_code=202,
    summary="Finish a training early",
    response_model=JobView,
    responses=refusals(404, 409),
)
def finish_job(state: StateDep, caller: Trainer, id: str) -> JSONResponse:
    """End a training now: its best state is judged and becomes the concept. 409 if it can't be."""
    job = finishing.finish(state["service"], caller, job_id=id)
    return JSONResponse(state["signed_urls"].to_json(job), status_code=202)


@router.delete(
    "/jobs/{id}",
    status_code=204,
    summary="Delete a job",
    response_class=Response,
    responses={204: {"description": "Gone.", "headers": FORGOTTEN_HEADERS}, **refusals(404, 409)},
)
async def delete_job(state: StateDep, caller: Canceller, id: str) -> Response:
    """Delete a finished job with its images; 409 before, and while the job's concept exists."""
    await with_blobs(state, lambda: deletion.delete(state["service"], caller, job_id=id))
    return Response(status_code=204, headers=FORGET)


@router.get(
    "/jobs/{id}/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events named `progress`, then one named `succeeded`, `failed` or "
            "`cancelled`. `data` is the Job, `id` grows with every change.",
            "content": {"text/event-stream": {"schema": JOB_EVENT}},
        },
        204: {"description": "`Last-Event-ID` was the last event. No more events follow."},
        **refusals(404),
    },
)
async def follow_job(
    state: StateDep,
    caller: Reader,
    _: StreamPlace,
    id: str,
    authorization: Authorization,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="Resume after this event.")
    ] = None,
    previews: Annotated[
        bool,
        Query(description="Let events of a generation carry `preview` and `previews`."),
    ] = False,
) -> Response:
    """Send server-sent events and keep-alives until the job ends."""
    service = state["service"]
    job = await run_in_threadpool(jobs.get, service, caller, job_id=id)
    seen = events.last_event_id(last_event_id)
    if job.finished and seen == job.version:
        return Response(status_code=204)  # tells an EventSource to stop reconnecting

    async def allowed() -> bool:
        return await run_in_threadpool(may_read, state, authorization)

    async def watched() -> EventPreviews | None:
        return await with_blobs(state, lambda: live_previews.watch(service, caller, job_id=id))

    async def stream() -> AsyncIterator[ServerSentEvent]:
        views = events.follow(service, caller, job=job, last_event_id=seen, allowed=allowed)
        newest = events.NewestPreviews(watched if previews else None)
        async for view in views:
            body = {**state["signed_urls"].to_json(view), **await newest.of(view)}
            yield events.event_of(view, body=body)

    return EventSourceResponse(stream(), ping=KEEP_ALIVE_SECONDS)


@router.get(
    "/jobs/{id}/preview",
    summary="See what a training has learned so far",
    response_class=Response,
    responses=file_responses("The latest preview picture.", 404),
)
async def get_job_preview(
    state: StateDep, caller: Reader, id: str, if_none_match: IfNoneMatch = None
) -> Response:
    """Return a training's newest preview, or 404 before the first.

    A preview is deleted with its concept.
    """
    png = await with_blobs(state, lambda: jobs.preview(state["service"], caller, job_id=id))
    return file_answer(
        png,
        media_type="image/png",
        sha256=hashlib.sha256(png).hexdigest(),
        disposition=f'inline; filename="{id}-preview.png"',
        if_none_match=if_none_match,
        immutable=False,
    )


@router.get(
    "/jobs/{id}/sheet",
    summary="See a sweep as a contact sheet",
    response_class=Response,
    responses=file_responses(
        "The images of the sweep, labelled with the values of its axes.", 404, 409
    ),
)
async def get_job_sheet(
    state: StateDep, caller: Reader, id: str, if_none_match: IfNoneMatch = None
) -> Response:
    """Draw the contact sheet of a finished sweep; 404 for other jobs, 409 before its end.

    The cell of a deleted image is empty.
    """
    sheet = await with_blobs(state, lambda: sheets.read(state["service"], caller, job_id=id))
    return picture_answer(
        sheet, caller, name=f"{id}-sheet.png", if_none_match=if_none_match, immutable=False
    )
