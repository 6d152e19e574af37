"""OpenAI's images interface: a thin translation of `POST /generate` that waits for the images."""

import base64
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Body, Path, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from api import events, problems
from api.dependencies import (
    Caller,
    Generator,
    OptionalIdempotency,
    ServiceDep,
    State,
    state_of,
    with_blobs,
)
from api.openai.forms import EDIT_PARTS, EditForm, edit_form
from api.openai.requests import DEFAULT_MODEL, ImagesRequest, translate
from api.openai.views import OpenAIImage, OpenAIImages, OpenAIModel, OpenAIModels
from api.openapi import headers, openai_refusals
from api.routes.guarded import GuardedRoute
from api.uploads import places
from api.uploads.openapi_forms import multipart
from service import base_models
from service.errors import NotFound
from service.generations import use_cases as generations
from service.idempotency import Answer
from service.jobs import use_cases as jobs
from service.jobs.views import JobView
from service.pictures import edit_uploads
from service.statuses import JobStatus
from service.wiring import Service

router = APIRouter(tags=["openai"], route_class=GuardedRoute)
_LOCATION = headers(Location="`/jobs/{id}`, the job that made the images.")


@router.post(
    "/v1/images/generations",
    summary="Generate images, for clients of OpenAI",
    response_model=OpenAIImages,
    responses={
        200: {"description": "The images.", "headers": _LOCATION},
        **openai_refusals(400, 404, 408, 409, 413, 415, 504, 507),
    },
)
async def generate_openai_images(
    request: Request,
    caller: Generator,
    idempotency: OptionalIdempotency,
    body: Annotated[ImagesRequest, Body()],
) -> Response:
    """Generate images and wait for them: at most PERFUSION_OPENAI_WAIT_SECONDS, then 504.

    The job goes on after a 504, and after the client has disconnected. Unlike `POST /generate`,
    errors have OpenAI's form.
    """
    service = state_of(request)["service"]

    def accept() -> Answer:
        if body.model is not None:
            _served(service, body.model)
        return generations.request(service, caller, body=translate(body), idempotency=idempotency)

    with state_of(request)["concurrency"].waits.hold(caller):
        answer = await run_in_threadpool(accept)
        return await _images(request, caller, answer=answer, asked=body)


@router.post(
    "/v1/images/edits",
    summary="Edit a picture, for clients of OpenAI",
    response_model=OpenAIImages,
    responses={
        200: {"description": "The images.", "headers": _LOCATION},
        **openai_refusals(400, 404, 408, 409, 413, 415, 504, 507),
    },
    openapi_extra=multipart(
        EDIT_PARTS,
        ["image", "prompt"],
        image="image/png, image/jpeg, image/webp",
        mask="image/png, image/webp",
    ),
)
async def edit_openai_image(
    request: Request, caller: Generator, idempotency: OptionalIdempotency
) -> Response:
    """Paint a picture anew where its mask is transparent, or change all of it without a mask.

    Waits and answers as `POST /v1/images/generations`.
    """
    state = state_of(request)
    service = state["service"]

    def accept(form: EditForm) -> Answer:
        if form.asked.model is not None:
            _served(service, form.asked.model)
        with edit_uploads.reading(
            service, picture=form.image, mask=form.mask, mask_kind="transparent"
        ) as upload:
            size = upload.picture.size if upload.picture and upload.mask else None
            body = translate(form.asked, picture_size=size)
            return generations.request(
                service, caller, body=body, upload=upload, idempotency=idempotency
            )

    with state["concurrency"].waits.hold(caller):
        # The place of an upload is free again before the images are waited for.
        await places.check_room(request, state, caller)
        with places.hold(request, state, caller):
            async with edit_form(request, settings=service.settings) as form:
                answer = await to_thread.run_sync(accept, form, limiter=state["uploads"])
        return await _images(request, caller, answer=answer, asked=form.asked)


@router.get(
    "/v1/models",
    summary="List the base model, for clients of OpenAI",
    response_model=OpenAIModels,
    responses=openai_refusals(),
)
def list_openai_models(service: ServiceDep, _: Caller) -> JSONResponse:
    """Return the base model that is served; it also answers to the name `default`."""
    served = OpenAIModel(id=base_models.describe(service).name)
    return JSONResponse(OpenAIModels(data=(served,)).to_json())


@router.get(
    "/v1/models/{name:path}",
    summary="Look at a base model, for clients of OpenAI",
    response_model=OpenAIModel,
    responses=openai_refusals(404),
)
def get_openai_model(
    service: ServiceDep,
    _: Caller,
    name: Annotated[str, Path(description="The base model's name, or `default`.")],
) -> JSONResponse:
    """Return the base model that is served, by its name or as `default`."""
    return JSONResponse(OpenAIModel(id=_served(service, name)).to_json())


def _served(service: Service, name: str) -> str:
    """Return the served base model's name; raise NotFound unless `name` stands for it."""
    served = base_models.describe(service).name
    if name not in (served, DEFAULT_MODEL):
        raise NotFound(
            "model-not-found", f"No such model is served here. Use {served}, or {DEFAULT_MODEL}."
        )
    return served


async def _images(
    request: Request, caller: str, *, answer: Answer, asked: ImagesRequest
) -> Response:
    """Wait for the job of `answer`, and return its images or the error that it ended with."""
    state = state_of(request)
    service = state["service"]
    seconds = service.settings.openai_wait_seconds
    location = {"Location": answer.location}
    job_id = answer.body["job"]["id"]
    job = await events.wait_for_end(request, service, caller, job_id=job_id, seconds=seconds)
    if job is None:
        return problems.answer(
            request,
            504,
            slug="job-not-finished",
            detail=f"The images were not ready within {seconds:g} seconds. Job {job_id} goes on: "
            f"GET /jobs/{job_id} will have them.",
            headers=location,
        )
    if job.status is JobStatus.CANCELLED:
        detail = f"Job {job_id} was cancelled before the images were ready."
        return problems.answer(request, 409, slug="job-cancelled", detail=detail, headers=location)
    if job.error is not None:
        kind = job.error.type.rpartition("/")[2]
        return problems.answer(request, 500, slug=kind, detail=job.error.detail, headers=location)
    images = await _view(request, state, caller, job=job, asked=asked)
    return JSONResponse(images.to_json(), headers=location)


async def _view(
    request: Request, state: State, caller: str, *, job: JobView, asked: ImagesRequest
) -> OpenAIImages:
    files = [""] * len(job.images)
    if asked.response_format != "url":
        service = state["service"]

        def read() -> list[str]:
            stored = [jobs.read_image(service, caller, image_id=image.id) for image in job.images]
            return [base64.b64encode(file.data).decode() for file in stored]

        files = await with_blobs(state, read)
    base_url = str(request.base_url).rstrip("/")
    links = [image["signed_url"] for image in state["signed_urls"].to_json(job)["images"]]
    return OpenAIImages(
        created=int((job.finished_at or job.created_at).timestamp()),
        data=tuple(
            OpenAIImage(
                url=None if asked.response_format == "b64_json" else f"{base_url}{link}",
                b64_json=file or None,
                seed=image.seed,
            )
            for image, link, file in zip(job.images, links, files, strict=True)
        ),
        size="{0.width}x{0.height}".format(job.images[0]),
    )
