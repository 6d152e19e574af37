"""The project stays small enough for a lent GPU, a slow connection and a wheel."""

import subprocess
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MOST_TRACKED_BYTES = 60 * 2**20
_MOST_PICTURE_BYTES = 4_000_000
_MOST_BASE_MODEL_BYTES = 51_000_000
_MANY_LINES = 350
_PICTURES = {".png", ".webp", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".avif"}


def _tracked(*folders: str) -> list[Path]:
    """Return the existing files that git tracks in these folders, or in all folders."""
    told = subprocess.run(
        ["git", "ls-files", "-z", "--", *folders], capture_output=True, text=True, check=True,
        cwd=ROOT,
    ).stdout  # fmt: skip
    named = (ROOT / name for name in told.split("\0") if name)
    return [file for file in named if file.exists()]


def _bytes_of(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def test_all_tracked_files_together_are_at_most_60_mebibytes() -> None:
    files = _tracked()
    assert len(files) > 500
    assert _bytes_of(files) <= _MOST_TRACKED_BYTES


def test_pictures_of_the_documents_are_webp_and_at_most_4_megabytes_in_all() -> None:
    pictures = [file for file in _tracked("docs", "models") if file.suffix.lower() in _PICTURES]
    assert len(pictures) >= 10
    assert [file.name for file in pictures if file.suffix != ".webp"] == []
    assert all(file.read_bytes()[8:12] == b"WEBP" for file in pictures)
    assert _bytes_of(pictures) <= _MOST_PICTURE_BYTES


def test_the_base_model_takes_at_most_51_megabytes() -> None:
    kept = {".safetensors", ".json"}  # weights, tokenizer, covariance and their configurations
    files = [file for file in _tracked("models/base") if file.suffix in kept]
    names = {str(file.relative_to(ROOT / "models/base")) for file in files}
    needed = {"covariance.safetensors", "tokenizer/tokenizer.json"}
    assert needed <= names
    assert sum(name.endswith(".safetensors") for name in names) >= 4
    assert _bytes_of(files) <= _MOST_BASE_MODEL_BYTES


def test_a_file_that_grows_long_is_warned_of() -> None:
    """Above this a file is worth splitting; what may not be longer at all, test_rules.py says."""
    files = [file for file in _tracked() if file.suffix in {".py", ".js", ".css"}]
    assert len(files) > 400
    for file in files:
        lines = len(file.read_text("utf-8").splitlines())
        if lines > _MANY_LINES:
            warnings.warn(f"{file.relative_to(ROOT)} has {lines} lines: split it", stacklevel=1)
