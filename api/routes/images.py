"""Generated images, as files."""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from api.dependencies import ImageReader, StateDep, with_blobs
from api.files import NOT_MODIFIED, file_answer, file_headers
from api.openapi import refusals
from service import jobs

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
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """An image never changes, so a client may keep it for ever.

    The `signed_url` of a job's image opens it without a key, for 10 minutes at least.
    """
    image = await with_blobs(state, lambda: jobs.read_image(state["service"], reader, image_id=id))
    answer = file_answer(
        image.data,
        media_type="image/png",
        sha256=image.sha256,
        disposition=f'inline; filename="{id}.png"',
        if_none_match=if_none_match,
        immutable=True,
    )
    if reader is None:  # a link is for pages of any origin
        answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return answer
