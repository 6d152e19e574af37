"""An owner who keeps uploads and imports in flight. `benchmarks.servers.neighbours` starts it.

    python -m benchmarks.servers.noisy_owner PORT KEY --uploads 4 --imports 40 --seconds 60

Each upload has 20 photos of 48 megapixels, about 240 MiB together. A refused request is repeated
when its `Retry-After` has passed, or at once with --rude. This runs in its own process with a lower
priority, so that it takes little processor time from the server.
"""

import argparse
import asyncio
import io
import itertools
import json
import os
import sys
import time
from collections import Counter

import numpy as np
from PIL import Image

from tests.unit.service import staging

_PICTURES = 20
_SIZE_PIXELS = (8064, 6048)
# Noise of this share of the size, enlarged: at this quality, a JPEG of 12 MiB.
_GRAIN = 6
_QUALITY = 80
_names = itertools.count()


def main() -> None:
    """Send until the time is over, then print the number of answers by status as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("key")
    parser.add_argument("--uploads", type=int, default=4)
    parser.add_argument("--imports", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rude", action="store_true")
    arguments = parser.parse_args()
    os.nice(5)
    print("ready", flush=True)  # the pictures are drawn
    json.dump(asyncio.run(_keep_sending(arguments)), sys.stdout)


async def _keep_sending(arguments: argparse.Namespace) -> dict[str, dict[int, int]]:
    end = time.monotonic() + arguments.seconds
    answers: dict[str, Counter[int]] = {"/concepts": Counter(), "/concepts/import": Counter()}

    async def sender(path: str, files: bytes) -> None:
        while time.monotonic() < end:
            status, retry_after = await _send(arguments.port, arguments.key, path, files)
            answers[path][status] += 1
            if status in (429, 503) and not arguments.rude:
                await asyncio.sleep(retry_after)

    senders = [sender("/concepts", _UPLOAD) for _ in range(arguments.uploads)]
    senders += [sender("/concepts/import", _IMPORT) for _ in range(arguments.imports)]
    tasks = [asyncio.create_task(each) for each in senders]
    await asyncio.wait(tasks, timeout=arguments.seconds)
    for task in tasks:
        task.cancel()
    return {path: dict(counted) for path, counted in answers.items()}


async def _send(port: int, key: str, path: str, files: bytes) -> tuple[int, float]:
    """Send one form under a new name; return the status and the seconds to wait."""
    body = _field("name", f"n{os.getpid()}-{next(_names)}") + files + b"--b--\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        f"Authorization: Bearer {key}\r\nConnection: close\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        try:
            writer.write(head.encode())
            for start in range(0, len(body), 1024**2):
                if answer.done():
                    break  # the server refused it without reading it all
                writer.write(body[start : start + 1024**2])
                await writer.drain()
        except OSError:
            pass
        lines = (await answer).lower().split(b"\r\n")
        writer.close()
    except (OSError, asyncio.IncompleteReadError):
        return 0, 1.0
    waits = [line for line in lines if line.startswith(b"retry-after:")]
    return int(lines[0][9:12]), float(waits[0].split(b":")[1]) if waits else 0.0


def _field(name: str, value: str) -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def _file(name: str, data: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'
    return head.encode() + data + b"\r\n"


def _photo() -> bytes:
    width, height = _SIZE_PIXELS
    shape = (height // _GRAIN, width // _GRAIN, 3)
    grains = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grains).resize(_SIZE_PIXELS).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


_UPLOAD = _field("superclass", "bear") + _PICTURES * _file("images", _photo())
_IMPORT = _file("file", staging.core_concept(evaluation=staging.evaluation()).to_bytes())


if __name__ == "__main__":
    main()
