"""Answers that contain a file with a name and a hash; an unchanged file is not sent again."""

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import Header, Response

from api.openapi import Responses, headers, refusals
from service.blobs.store import StoredFile

IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match")]
# A browser keeps images for a year; this makes it forget those of this server.
FORGET: Final = {"Clear-Site-Data": '"cache"'}


def file_responses(
    description: str, *refused: int, media_types: Sequence[str] = ("image/png",)
) -> Responses:
    """Return what OpenAPI says about a route that serves a file and refuses by these statuses."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        200: {
            "description": description,
            "content": dict.fromkeys(media_types, binary),
            "headers": headers(
                ETag="The file's SHA-256, quoted.", Content_Disposition="The file's name."
            ),
        },
        304: {"description": "The file that `If-None-Match` names."},
        **refusals(*refused),
    }


def file_answer(
    data: bytes,
    *,
    media_type: str,
    sha256: str,
    disposition: str,
    if_none_match: str | None,
    immutable: bool,
) -> Response:
    """Return the file, or 304 if the client already has the file."""
    etag = f'"{sha256}"'
    freshness = "max-age=31536000, immutable" if immutable else "no-cache"
    caching = {"ETag": etag, "Cache-Control": f"private, {freshness}"}
    if if_none_match is not None and _names(if_none_match, etag):
        return Response(status_code=304, headers=caching)
    return Response(
        data, media_type=media_type, headers={**caching, "Content-Disposition": disposition}
    )


def picture_answer(
    file: StoredFile,
    reader: str | None,
    *,
    name: str,
    if_none_match: str | None,
    media_type: str = "image/png",
    immutable: bool = True,
) -> Response:
    """Return a picture; `reader` is None for the bearer of a signed link."""
    answer = file_answer(
        file.data,
        media_type=media_type,
        sha256=file.sha256,
        disposition=f'inline; filename="{name}"',
        if_none_match=if_none_match,
        immutable=immutable,
    )
    if reader is None:  # pages of any origin may use a link
        answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return answer


def _names(if_none_match: str, etag: str) -> bool:
    """Return whether an If-None-Match header, a list of strong or weak tags, names `etag`."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags
