"""Answers that contain a file with a name and a hash; an unchanged file is not sent again."""

from typing import Annotated, Any, Final

from fastapi import Header, Response

from api.openapi import headers

IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match")]
NOT_MODIFIED: Final[dict[str, Any]] = {"description": "The file that `If-None-Match` names."}


def file_headers() -> dict[str, Any]:
    """Return what OpenAPI says about a file's headers."""
    return headers(ETag="The file's SHA-256, quoted.", Content_Disposition="The file's name.")


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


def _names(if_none_match: str, etag: str) -> bool:
    """Return whether an If-None-Match header, a list of strong or weak tags, names `etag`."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags
