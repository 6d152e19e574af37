"""A model hub on this machine: what downloading a model by name and revision needs, and a log."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants


@dataclass
class Hub:
    """Folders by `name@revision`; a commit is the hash of that. Every branch is `main`."""

    folders: dict[str, Path]
    url: str = ""
    fetched: list[str] = field(default_factory=list)
    served_bytes: int = 0  # of files, not of answers about them
    # After so many more bytes of files each connection breaks, until this is None again.
    break_after_bytes: int | None = None

    def commit(self, name: str, revision: str) -> str:
        """The commit of a revision, which is one itself where it is pinned."""
        known = {commit_of(key): key for key in self.folders}
        return revision if revision in known else commit_of(f"{name}@{revision}")

    def folder(self, commit: str) -> Path | None:
        """The files of a commit."""
        return {commit_of(key): folder for key, folder in self.folders.items()}.get(commit)


def commit_of(name_and_revision: str) -> str:
    """Forty hexadecimal digits, as git has them."""
    return hashlib.sha1(name_and_revision.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def asked_here(hub: Hub, cache: Path) -> Iterator[Hub]:
    """Serve the hub, and let huggingface_hub in this process ask no other, with its own cache."""
    with serving(hub), pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
        patch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # what a break loses at most
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        yield hub


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/models/"):
                what = "tree" if "/tree/" in path else "revision"
                name, _, revision = path.removeprefix("/api/models/").partition(f"/{what}/")
                self._tell(name, revision or "main", as_tree=what == "tree")
            else:
                name, _, rest = path[1:].partition("/resolve/")
                revision, _, file = rest.partition("/")
                self._send(name, revision, file)

        def _tell(self, name: str, revision: str, *, as_tree: bool) -> None:
            commit = hub.commit(name, revision)
            folder = hub.folder(commit)
            if folder is None:
                known = any(key.startswith(f"{name}@") for key in hub.folders)
                code = "RevisionNotFound" if known else "RepoNotFound"
                self._reply(404, b"{}", **{"X-Error-Code": code})
                return
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            paths = {str(file.relative_to(folder)): file.stat().st_size for file in files}
            said: object = {
                "id": name,
                "sha": commit,
                "siblings": [{"rfilename": path, "size": size} for path, size in paths.items()],
                "tags": [],
                "private": False,
            }
            if as_tree:
                said = [
                    {"type": "file", "path": path, "size": size, "oid": commit_of(path)}
                    for path, size in paths.items()
                ]
            self._reply(200, json.dumps(said).encode())

        def _send(self, name: str, revision: str, file: str) -> None:
            commit = hub.commit(name, revision)
            folder = hub.folder(commit)
            if folder is None or not (folder / file).is_file():
                code = "EntryNotFound" if folder else "RevisionNotFound"
                self._reply(404, b"", **{"X-Error-Code": code, "X-Repo-Commit": commit})
                return
            data = (folder / file).read_bytes()
            more = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}
            if self.command == "HEAD":
                self._reply(200, data, **more)
                return
            hub.fetched.append(f"{name}/{file}")
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            if start:
                more["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._reply(206 if start else 200, data[start:], **more)

        def _reply(self, status: int, data: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self._write(data, counted="ETag" in headers)

        def _write(self, data: bytes, *, counted: bool) -> None:
            allowed = hub.break_after_bytes
            if counted and allowed is not None and len(data) > allowed:
                data, hub.break_after_bytes = data[:allowed], 0
                self.close_connection = True
            self.wfile.write(data)
            if counted:
                hub.served_bytes += len(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
