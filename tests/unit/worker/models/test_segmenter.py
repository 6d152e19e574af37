"""The segmenter is used where it is at hand, and costs nobody a training."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from structlog.testing import capture_logs

from service.settings.environment import Settings
from tests.unit.perfusion_core.conftest import drawing
from tests.unit.perfusion_core.test_hub import as_pickle, save_clipseg
from worker.models import segmenter

COMMITS = {"main": "1" * 40, "earlier": "2" * 40}
NAME = "a/clipseg"


def find(name: str) -> segmenter.Segmenter | None:
    return segmenter.find([drawing()], [None], name=name, device="cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache with two commits of one model: `main` as a pickle, `earlier` as safetensors."""
    model = tmp_path / "models--a--clipseg"
    (model / "refs").mkdir(parents=True)
    for branch, commit in COMMITS.items():
        (model / "refs" / branch).write_text(commit)
    as_pickle(save_clipseg(model / "snapshots" / COMMITS["main"]))
    save_clipseg(model / "snapshots" / COMMITS["earlier"])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("revision", ["earlier", COMMITS["earlier"]])
def test_a_pinned_revision_in_the_cache_is_loaded(cache: Path, revision: str) -> None:
    assert find(f"{NAME}@{revision}") is not None


def test_weights_that_are_missing_are_told_and_cost_the_masks_alone(cache: Path) -> None:
    (cache / "models--a--clipseg" / "snapshots" / COMMITS["main"] / "pytorch_model.bin").unlink()
    with capture_logs() as lines:
        assert find(NAME) is None
    (line,) = lines
    assert line["event"] == "segmenter.not_loaded"
    assert "has neither model.safetensors" in line["problem"]


@pytest.mark.parametrize("name", ["a/other", f"{NAME}@{'3' * 40}", "none", "/no/folder"])
def test_what_is_not_on_this_machine_is_not_fetched_and_not_missed(cache: Path, name: str) -> None:
    with capture_logs() as lines:
        assert find(name) is None
    assert lines == []


def test_a_folder_is_a_name_too(tmp_path: Path) -> None:
    assert find(str(save_clipseg(tmp_path / "clipseg"))) is not None


def test_its_name_is_told_where_it_is_on_this_machine(cache: Path) -> None:
    def name(segmenter_name: str) -> str | None:
        return segmenter.name_of(Settings(segmenter=segmenter_name))

    assert name(NAME) == NAME
    assert name("a/other") is None
    assert name("none") is None


def test_a_damaged_model_is_told(tmp_path: Path) -> None:
    folder = save_clipseg(tmp_path / "clipseg")
    (folder / "config.json").write_text("{")
    with capture_logs() as lines:
        assert find(str(folder)) is None
    assert [line["event"] for line in lines] == ["segmenter.not_loaded"]


def test_pictures_with_masks_or_transparency_need_none(tmp_path: Path) -> None:
    name = str(save_clipseg(tmp_path / "clipseg"))
    clear = drawing().convert("RGBA")
    masks = [drawing(), None]
    assert segmenter.find([drawing(), clear], masks, name=name, device="cpu") is None
