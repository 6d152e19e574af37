"""A model of a hub is fetched once, in pieces if need be, and never believed unchecked."""

import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from perfusion_core import downloads, hub
from perfusion_core.errors import BaseModelError
from tests.unit.perfusion_core.hub_server import Hub, asked_here

MB = 1024**2
LARGE = np.random.default_rng(1).bytes(4 * MB)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub with a model of one large file and two small ones."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(LARGE)
    (folder / "pytorch_model.bin").write_bytes(LARGE)
    (folder / "config.json").write_text("{}")
    (folder / "vocab.txt").write_text("a b c")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the library's own retries
    return Hub({"a/model@main": folder})


def fetch(seen: list[tuple[int, int]] | None = None) -> Path:
    return hub.find_folder(
        "a/model", role="evaluator", progress=lambda *at: None if seen is None else seen.append(at)
    )


def test_an_interrupted_download_asks_for_the_rest_alone(served: Hub, tmp_path: Path) -> None:
    with asked_here(served, tmp_path / "cache"):
        assert hub.sizes_of("a/model", role="evaluator") == (4 * MB + 7, 4 * MB + 7)
        served.break_after_bytes = 3 * MB
        with pytest.raises(BaseModelError, match="cannot be fetched"):
            fetch()
        before = served.served_bytes
        assert 3 * MB <= before < 3.1 * MB
        served.break_after_bytes = None
        seen: list[tuple[int, int]] = []
        folder = fetch(seen)
        assert served.served_bytes - before <= 1.1 * MB
        assert (folder / "model.safetensors").read_bytes() == LARGE
        assert not (folder / "pytorch_model.bin").exists()
        done = [at for at, _ in seen]
        assert done == sorted(done) and seen[-1] == (4 * MB + 7, 4 * MB + 7)
        assert any(2.9 * MB <= at < 4 * MB for at in done)
        served.served_bytes = 0
        assert fetch() == folder
        assert hub.sizes_of("a/model", role="evaluator") == (4 * MB + 7, 0)
        assert served.served_bytes == 0


def test_a_connection_that_breaks_once_is_made_again(served: Hub, tmp_path: Path) -> None:
    with asked_here(served, tmp_path / "cache"):
        served.break_after_bytes = MB
        seen: list[int] = []

        def heal(done: int, total: int) -> None:
            seen.append(done)
            if done >= MB // 2:
                served.break_after_bytes = None

        (files,) = [
            downloads.list_files(
                "a/model", revision=None, allow_patterns=["model*"], ignore_patterns=[]
            )
        ]
        folder = downloads.download("a/model", files, progress=heal)
        assert (folder / "model.safetensors").read_bytes() == LARGE
        assert served.served_bytes < 4.1 * MB


def test_a_file_that_arrives_damaged_is_not_used(served: Hub, tmp_path: Path) -> None:
    with asked_here(served, tmp_path / "cache"):
        served.break_after_bytes = 2 * MB
        with pytest.raises(BaseModelError):
            fetch()
        served.break_after_bytes = None
        (part,) = (tmp_path / "cache").rglob("*.part")
        with part.open("r+b") as file:
            file.write(b"\0" * 100)
        with pytest.raises(BaseModelError) as caught:
            fetch()
        assert "damaged" in str(caught.value.__cause__)
        assert (fetch() / "model.safetensors").read_bytes() == LARGE


def test_without_a_connection_the_cache_serves_what_is_whole(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asked_here(served, tmp_path / "cache"):
        with monkeypatch.context() as offline:
            offline.setattr(constants, "HF_HUB_OFFLINE", True)
            with pytest.raises(BaseModelError, match="cannot be fetched"):
                fetch()
        folder = fetch()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        served.fetched.clear()
        assert fetch() == folder
        assert hub.sizes_of("a/model", role="evaluator")[1] == 0
        assert served.fetched == []
