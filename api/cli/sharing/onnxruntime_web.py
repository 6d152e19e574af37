"""ONNX Runtime Web: the two files of its npm package that a page runs."""

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from api.cli.errors import CommandError

VERSION = "1.30.0"
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_MODULE, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"


def runtime_files(package: Path | None = None) -> dict[str, bytes]:
    """Return the runtime's module, and its WASM compressed by gzip, by the names the page reads.

    `package` is the package's file; without it, npm fetches the package. Raises CommandError if
    the package cannot be had or is not the one that this release knows.
    """
    data = _fetched() if package is None else package.read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != _SHA512:
        raise CommandError(
            f"{package or 'What npm fetched'} is not onnxruntime-web {VERSION} as its makers "
            "published it: fetch it again."
        )
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        module, wasm = (_read(archive, f"package/dist/{name}") for name in (_MODULE, _WASM))
    return {"runtime.mjs": module, "runtime.bin": gzip.compress(wasm, mtime=0)}


def _fetched() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise CommandError(
            f"npm fetches onnxruntime-web {VERSION} and is not installed: install Node.js, or name "
            f"the package's file by --runtime onnxruntime-web-{VERSION}.tgz."
        )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [npm, "pack", "--silent", "--pack-destination", folder, f"onnxruntime-web@{VERSION}"],
            capture_output=True,
            text=True,
            check=False,
        )
        found = list(Path(folder).glob("*.tgz"))
        if done.returncode or not found:
            said = done.stderr.strip().splitlines()
            raise CommandError(
                f"npm could not fetch onnxruntime-web {VERSION}: check the network and try again. "
                f"{said[0] if said else ''}".rstrip()
            )
        return found[0].read_bytes()


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None  # the hash says which files there are
    return member.read()
