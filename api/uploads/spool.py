"""Keep uploads while the server reads: small parts in memory, the rest in files without names.

The system frees a file without a name when the process ends, so even a crash leaves no files
behind. PERFUSION_SPOOL_DIR is the folder; PERFUSION_SPOOL_BYTES limits the bytes that one process
reads at the same time (see concurrency.py).
"""

from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import structlog
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.errors import Unavailable

_IN_MEMORY_BYTES = 64 * 1024
_PIECE_BYTES = 512 * 1024
_log = structlog.get_logger("perfusion.api")


async def read_form(
    request: Request, *, folder: str, max_files: int, max_fields: int, max_text_bytes: int
) -> FormData:
    """Read a multipart form, which the caller closes. Raise HTTPException or Unavailable."""
    parser = _Parser(
        request.headers,
        request.stream(),
        max_files=max_files,
        max_fields=max_fields,
        max_part_size=max_text_bytes,
    )
    parser.folder = folder
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from error
    except ClientDisconnect as error:
        raise HTTPException(400) from error  # the client has disconnected, no server error
    except OSError as error:
        # The folder is full, missing or not writable; the log names the cause.
        _log.warning("spool.failed", folder=folder, cause=error.strerror or str(error))
        raise Unavailable(
            "no-room-for-uploads",
            "There is no room for uploads at this moment. Send it again later; if this goes on, "
            "tell the operator.",
            retry_after_seconds=30,
        ) from error


class _Parser(MultiPartParser):
    """Starlette's parser, which puts large files into `folder` and keeps little in memory."""

    folder: str

    def on_headers_finished(self) -> None:
        """Replace the file that Starlette made for this part by a file in `folder`."""
        super().on_headers_finished()
        made = self._current_part.file
        if made is not None:
            made.file.close()
            upload = _SpooledFile(self.folder, filename=made.filename, headers=made.headers)
            self._current_part.file = upload
            self._files_to_close_on_error[-1] = upload.file  # type: ignore[call-overload]


class _SpooledFile(UploadFile):
    """A file written in large pieces, because each write occupies a thread."""

    def __init__(self, folder: str, *, filename: str | None, headers: Headers) -> None:
        file: Any = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES, dir=folder)  # noqa: SIM115
        super().__init__(file, size=0, filename=filename, headers=headers)
        self._pending = bytearray()

    async def write(self, data: bytes) -> None:
        """Collect bytes; write them when a piece is full."""
        self._pending += data
        if len(self._pending) >= _PIECE_BYTES:
            await self._flush()

    async def seek(self, offset: int) -> None:
        """Write the remaining bytes, then move the position."""
        await self._flush()
        await super().seek(offset)

    async def _flush(self) -> None:
        piece, self._pending = bytes(self._pending), bytearray()
        await super().write(piece)
