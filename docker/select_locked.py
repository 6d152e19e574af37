"""Print the part of requirements.lock that the named extras of pyproject.toml need.

    python3 docker/select_locked.py --extra device --extra tracing >requirements.txt
    pip install --require-hashes --requirement requirements.txt

The lock holds every extra; an image needs some. With --torch-sha256 torch is the CPU wheel of that
hash, which PyPI does not have, and what torch needs for CUDA is left out. The standard library
suffices, because this runs before anything is installed.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_CUDA = re.compile(r"(nvidia|cuda)-|triton$")


def read_lock(text: str) -> dict[str, str]:
    """Return the lines of each package of the lock, by its name."""
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {re.split(r"[=\[ ]", entry, maxsplit=1)[0]: entry for entry in entries}


def select(lock: dict[str, str], wanted: Iterable[str]) -> dict[str, str]:
    """Return the entries of `wanted` and of everything that they need, in the lock's order."""
    # uv notes under each package which others need it.
    needed_by = {name: set(re.findall(r"^ +#(?: via)? +([a-z0-9][\w.-]*)$", entry, re.MULTILINE))
                 for name, entry in lock.items()}  # fmt: skip
    found, more = set[str](), set(wanted)
    while more:
        found |= more
        more = {name for name, needing in needed_by.items() if needing & found} - found
    return {name: entry for name, entry in lock.items() if name in found}


def with_cpu_torch(lock: dict[str, str], sha256: str) -> dict[str, str]:
    """Return the entries with torch's CPU wheel of this hash, without the packages of CUDA."""
    kept = {name: entry for name, entry in lock.items() if not _CUDA.match(name)}
    version = re.match(r"torch==([\w.]+)", kept["torch"])
    if version is None:
        sys.exit("requirements.lock names no version of torch: run `make lock`.")
    return kept | {"torch": f"torch=={version[1]}+cpu --hash=sha256:{sha256}\n"}


def roots(extras: Iterable[str] | None) -> set[str]:
    """Return the names of what the project itself asks for; None: with every extra."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    optional = asked["project"]["optional-dependencies"]
    lines = [*asked["build-system"]["requires"], *asked["project"]["dependencies"]]
    for extra in optional if extras is None else extras:
        lines += lines_of(extra, optional)
    names = (re.match(r"[\w.-]+", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


def lines_of(extra: str, optional: dict[str, list[str]]) -> list[str]:
    """Return what an extra asks for; a line such as `perfusion[device]` stands for that extra."""
    lines = []
    for line in optional[extra]:
        others = re.match(r"perfusion\[([\w,-]+)\]$", line)
        for other in others[1].split(",") if others else ():
            lines += lines_of(other, optional)
        lines += [] if others else [line]
    return lines


def main() -> None:
    """Read the options and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--extra", action="append", default=[], help="may be repeated")
    parser.add_argument("--all-extras", action="store_true")
    parser.add_argument("--torch-sha256", default="", help="of a CPU wheel, in hexadecimal")
    parser.add_argument("--torch-index-url", default="", help="only looked at: see below")
    given = parser.parse_args()
    if given.torch_index_url and not given.torch_sha256:
        sys.exit(
            "TORCH_INDEX_URL is set and TORCH_SHA256 is not: set TORCH_SHA256 to the sha256 of the "
            "torch wheel that you want from there. docs/operations.md says where to find it."
        )
    if given.torch_sha256 and not re.fullmatch("[0-9a-f]{64}", given.torch_sha256):
        sys.exit("TORCH_SHA256 is not a sha256: write 64 hexadecimal digits in lower case.")
    lock = read_lock((ROOT / "requirements.lock").read_text())
    lock = select(lock, roots(None if given.all_extras else given.extra))
    if given.torch_sha256:
        lock = with_cpu_torch(lock, given.torch_sha256)
    if given.torch_index_url:
        print(f"--extra-index-url {given.torch_index_url}")
    print("".join(lock.values()), end="")


if __name__ == "__main__":
    main()
