"""Generated images, as files."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.dependencies import ImageReader, StateDep, with_blobs
from api.files import NOT_MODIFIED, IfNoneMatch, file_answer, file_headers
from api.openapi import refusals
from service.blobs.store import StoredFile
from service.jobs import use_cases as jobs

router = APIRouter(tags=["generation"])


@router.get(
    "/images/{id}",
    summary="Fetch an image",
    response_class=Response,
    responses={
        200: {
            "description": "The PNG. Its text chunks hold the request, the seed and the "
            "concepts' hashes: `parameters` in the webui's convention, `perfusion` as JSON.",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "headers": file_headers(),
        },
        304: NOT_MODIFIED,
        **refusals(404),
    },
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
    return _answer(image, reader, name=f"{id}.png", if_none_match=if_none_match)


@router.get(
    "/images/{id}/attention/{k}",
    summary="See where a word acted",
    response_class=Response,
    responses={
        200: {
            "description": "The attention map of word k over the image in grey: a PNG of at most "
            "512 pixels a side.",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "headers": file_headers(),
        },
        304: NOT_MODIFIED,
        **refusals(404),
    },
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
    return _answer(png, reader, name=f"{id}-attention-{k}.png", if_none_match=if_none_match)


def _answer(
    file: StoredFile, reader: str | None, *, name: str, if_none_match: str | None
) -> Response:
    answer = file_answer(
        file.data,
        media_type="image/png",
        sha256=file.sha256,
        disposition=f'inline; filename="{name}"',
        if_none_match=if_none_match,
        immutable=True,
    )
    if reader is None:  # pages of any origin may use a link
        answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return answer
