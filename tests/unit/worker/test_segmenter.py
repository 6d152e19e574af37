"""The segmenter is used where it is at hand, and costs nobody a training."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.worker.staging import drawing
from worker import segmenter


def test_weights_that_cannot_be_loaded_are_told_and_cost_the_masks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    monkeypatch.setattr(segmenter, "try_to_load_from_cache", lambda *_: str(config))
    with capture_logs() as lines:
        assert segmenter.find([drawing()], [None], device="cpu") is None
    assert [line["event"] for line in lines] == ["segmenter.not_loaded"]


def test_pictures_with_masks_or_transparency_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> str:
        raise AssertionError

    monkeypatch.setattr(segmenter, "try_to_load_from_cache", never)
    clear = drawing().convert("RGBA")
    assert segmenter.find([drawing(), clear], [drawing(), None], device="cpu") is None
