"""A local image registry that speaks the part of the protocol that reads digests."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(image: str) -> str:
    """Return the digest of an image for all platforms."""
    return "sha256:" + hashlib.sha256(image.encode()).hexdigest()


@dataclass
class Registry:
    """The images that the registry holds, and the requests that it received."""

    images: set[str]
    with_tokens: bool = True
    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(registry: Registry) -> Iterator[Registry]:
    """Serve the registry on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            _, _, rest = self.path.partition("/v2/")
            repository, _, tag = rest.partition("/manifests/")
            image = f"{repository}:{tag}"
            wanted = f"Bearer for-{repository}"
            if registry.with_tokens and self.headers["Authorization"] != wanted:
                self._answer(401, "WWW-Authenticate", (
                    f'Bearer realm="{registry.url}/token",service="here",'
                    f'scope="repository:{repository}:pull"'
                ))  # fmt: skip
                return
            registry.asked.append(image)
            if image not in registry.images:
                self._answer(404)
            elif INDEX in self.headers["Accept"]:
                self._answer(200, "Docker-Content-Digest", digest_of(image))
            else:
                self._answer(200, "Docker-Content-Digest", digest_of(image + " of one platform"))

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            _, repository, _ = query["scope"][0].split(":")
            assert query["service"] == ["here"]
            self._answer(200, body=json.dumps({"token": f"for-{repository}", "expires_in": 300}))

        def _answer(self, status: int, name: str = "", value: str = "", *, body: str = "") -> None:
            self.send_response(status)
            if name:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Keep the server's log out of the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
