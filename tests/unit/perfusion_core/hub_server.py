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


@dataclass
class Hub:
    """Folders by `name@revision`; a commit is the hash of that. Every branch is `main`."""

    folders: dict[str, Path]
    url: str = ""
    fetched: list[str] = field(default_factory=list)

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
                self._reply(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
                return
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            paths = {str(file.relative_to(folder)): file.stat().st_size for file in files}
            said: object = {
                "id": name,
                "sha": commit,
                "siblings": [{"rfilename": path} for path in paths],
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
            if self.command == "GET":
                hub.fetched.append(f"{name}/{file}")
            etag = hashlib.sha256(data).hexdigest()
            self._reply(200, data, ETag=f'"{etag}"', **{"X-Repo-Commit": commit})

        def _reply(self, status: int, data: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
