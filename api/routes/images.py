"""Generated images: listed and searched, as files, and deleted."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse

from api.dependencies import Generator, ImageList, ImageReader, Reader, StateDep, with_blobs
from api.files import FORGET, IfNoneMatch, file_responses, picture_answer
from api.openapi import FORGOTTEN_HEADERS, refusals
from service.images import use_cases as images
from service.images.views import LibraryImageView
from service.jobs import use_cases as jobs
from service.pages import Page

router = APIRouter(tags=["generation"])


@router.get(
    "/images",
    summary="List and search images",
    response_model=Page[LibraryImageView],
    responses=refusals(),
)
def list_images(state: StateDep, caller: Reader, query: ImageList) -> JSONResponse:
    """Newest first. Several conditions together narrow the list."""
    page = images.list_page(
        state["service"],
        caller,
        limit=query.limit,
        cursor=query.cursor,
        concept=query.concept,
        text=query.q,
        job_id=query.job_id,
    )
    items = [state["signed_urls"].image_to_json(image) for image in page.items]
    return JSONResponse({"items": items, "next_cursor": page.next_cursor})


@router.get(
    "/images/{id}.json",
    summary="Look at an image",
    response_model=LibraryImageView,
    responses=refusals(404),
)
def get_image_json(state: StateDep, caller: Reader, id: str) -> JSONResponse:
    """Return what `GET /images` says about an image."""
    image = images.get(state["service"], caller, image_id=id)
    return JSONResponse(state["signed_urls"].image_to_json(image))


@router.get(
    "/images/{id}",
    summary="Fetch an image",
    response_class=Response,
    responses=file_responses(
        "The PNG. Its text chunks hold the request, the seed and the "
        "concepts' hashes: `parameters` in the webui's convention, `perfusion` as JSON.",
        404,
    ),
)
async def get_image(
    state: StateDep,
    reader: ImageReader,
    id: str,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return an image. An image never changes, so a client may cache the image for ever.

    The `signed_url` of a job's image gives access without a key, for at least 10 minutes.
    """
    image = await with_blobs(state, lambda: jobs.read_image(state["service"], reader, image_id=id))
    return picture_answer(image, reader, name=f"{id}.png", if_none_match=if_none_match)


@router.get(
    "/images/{id}/thumbnail",
    summary="Fetch an image's thumbnail",
    response_class=Response,
    responses=file_responses(
        "A WebP of at most 256 pixels a side.", 404, media_types=("image/webp",)
    ),
)
async def get_thumbnail(
    state: StateDep,
    reader: ImageReader,
    id: str,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a small version of an image.

    A key or link for an image also gives access to the image's thumbnail.
    """
    thumbnail = await with_blobs(
        state, lambda: images.read_thumbnail(state["service"], reader, image_id=id)
    )
    return picture_answer(
        thumbnail,
        reader,
        name=f"{id}.webp",
        if_none_match=if_none_match,
        media_type="image/webp",
    )


@router.delete(
    "/images/{id}",
    status_code=204,
    summary="Delete an image",
    response_class=Response,
    responses={204: {"description": "Gone.", "headers": FORGOTTEN_HEADERS}, **refusals(404)},
)
async def delete_image(state: StateDep, caller: Generator, id: str) -> Response:
    """Delete an image with its thumbnail and its attention maps. Its job stays."""
    await with_blobs(state, lambda: images.delete(state["service"], caller, image_id=id))
    return Response(status_code=204, headers=FORGET)


@router.get(
    "/images/{id}/attention/{k}",
    summary="See where a word acted",
    response_class=Response,
    responses=file_responses(
        "The attention map of word k over the image in grey: a PNG of at most 512 pixels a side.",
        404,
    ),
)
async def get_attention_map(
    state: StateDep,
    reader: ImageReader,
    id: str,
    k: Annotated[int, Path(ge=0, le=1000, description="Its place in `attention_maps`.")],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return an attention map, made with the image if `attention_maps` was set.

    A map never changes.

    A key or link for an image also gives access to the image's maps.
    """
    png = await with_blobs(
        state,
        lambda: jobs.read_attention_map(state["service"], reader, image_id=id, number=k),
    )
    return picture_answer(png, reader, name=f"{id}-attention-{k}.png", if_none_match=if_none_match)
