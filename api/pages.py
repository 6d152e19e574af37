"""The pages: the studio at `/`, the documentation at `/docs`, the browser page at `/play`."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import PathLike, StaticFiles

from api.middleware import BROWSER_PAGE_CSP, DOCS_CSP

_WEB = Path(__file__).parent / "web"


def add(app: FastAPI, *, browser_page: Path) -> None:
    """Add the pages to the application; `browser_page` is the folder of `/play`, if it exists."""

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": DOCS_CSP}
        return FileResponse(_WEB / "docs" / "index.html", headers=headers)

    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(_WEB / "index.html", headers={"Cache-Control": "no-cache"})

    own_index = browser_page / "index.html"

    @app.get("/play", include_in_schema=False)
    def play() -> Response:
        if own_index.is_file():
            return RedirectResponse("play/")  # the addresses of its files start there
        return FileResponse(_WEB / "play" / "missing.html", headers={"Cache-Control": "no-cache"})

    @app.get("/play/", include_in_schema=False)
    def play_index() -> Response:
        if not own_index.is_file():
            return RedirectResponse("../play")
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": BROWSER_PAGE_CSP}
        return FileResponse(own_index, headers=headers)

    # Only the page's text: answers of the API may hold secrets next to what a caller chose, and
    # event streams must not wait for a compressor.
    app.mount("/web", GZipMiddleware(_Static(directory=_WEB, check_dir=False)))
    app.mount("/play", _BrowserPage(directory=browser_page, check_dir=False))


class _Static(StaticFiles):
    """The pages' files, which the browser caches but revalidates at each visit.

    A file whose name ends in `.gz` is sent as it is stored; every browser unpacks it.
    """

    def file_response(self, full_path: PathLike, *args: Any, **kwargs: Any) -> Response:
        """Return the file with `no-cache`, because an upgrade must not mix old and new modules."""
        response = super().file_response(full_path, *args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        if Path(full_path).suffix == ".gz":
            response.headers["Content-Encoding"] = "gzip"
        return response


class _BrowserPage(_Static):
    """The browser page's files. Each one carries the page's policy."""

    async def check_config(self) -> None:
        """Accept a folder that is not there yet: a command makes it while the server runs."""

    def file_response(self, full_path: PathLike, *args: Any, **kwargs: Any) -> Response:
        """Return the file with the policy that lets the page compile WASM."""
        response = super().file_response(full_path, *args, **kwargs)
        response.headers["Content-Security-Policy"] = BROWSER_PAGE_CSP
        return response
