"""`perfusion prepare`: a machine is made ready, in one run or in several."""

import time
from pathlib import Path

import pytest
from PIL import Image

from perfusion_core import downloads
from perfusion_core.base_model import BaseModel
from perfusion_core.covariance.captions import captions
from perfusion_core.covariance.estimate import Covariance
from tests.unit.api.cli.test_commands import ROOT, Run, refused, run
from tests.unit.perfusion_core.conftest import tiny_pipeline
from tests.unit.perfusion_core.hub_server import Hub, asked_here
from tests.unit.perfusion_core.test_hub import save_clip, save_clipseg

__all__ = ["run"]  # the fixture

MODELS = ("a/base", "--evaluator", "a/clip", "--segmenter", "a/clipseg")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub of tiny models of the real classes, whose small files count as large."""
    tiny_pipeline("sd1").save_pretrained(tmp_path / "hub" / "base")
    save_clip(tmp_path / "hub" / "clip")
    save_clipseg(tmp_path / "hub" / "clipseg")
    monkeypatch.setattr(downloads, "_LARGE_BYTES", 10_000)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the library's own retries
    return Hub({f"a/{name}@main": tmp_path / "hub" / name for name in ("base", "clip", "clipseg")})


def few_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = BaseModel.estimate_covariance

    def quickly(self: BaseModel, source: list[str] | None = None, **options: object) -> Covariance:
        chosen = source or captions(1000, known=self.knows_word)
        return estimate(self, chosen, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(BaseModel, "estimate_covariance", quickly)


def test_a_preparation_that_was_interrupted_fetches_the_rest_and_ends_with_an_image(
    run: Run, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_captions(monkeypatch)
    monkeypatch.setattr("api.cli.progress._QUIET_SECONDS", 0.0)
    with asked_here(hub, tmp_path / "cache"):
        hub.break_after_bytes = 150_000
        code, _, err = run("prepare", *MODELS)
        assert code == 1
        assert "Fetching 'a/base' failed" in err
        first = hub.served_bytes
        hub.break_after_bytes = None

        code, out, err = run("prepare", *MODELS)
        assert code == 0, err
        lines = [line for line in err.splitlines() if "is being fetched" in line]
        assert {line.split(" is being")[0] for line in lines} == {
            "The base model", "The evaluator", "The segmenter",
        }  # fmt: skip
        assert len(lines) > 6
        assert "of 10,000 captions" in err
        whole = sum(file.stat().st_size for file in (tmp_path / "hub").rglob("*") if file.is_file())
        # What a break loses is one piece of a file, and no file is fetched twice.
        assert hub.served_bytes <= whole + 110_000
        assert first >= 150_000

        (name,) = [line for line in out.splitlines() if line.startswith("image: ")]
        image = Image.open(name.removeprefix("image: ").split(",")[0])
        assert image.getcolors(maxcolors=1) is None
        assert "memory, reckoned:\n  U-Net: " in out
        assert "device: cpu in float32" in out
        assert out.endswith("a/base is ready.\n")

        hub.served_bytes = 0
        assert run("prepare", *MODELS)[0] == 0
        assert hub.served_bytes == 0


def test_a_part_that_cannot_be_had_is_told_and_the_others_are_prepared(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_captions(monkeypatch)
    tiny_pipeline("sd1").save_pretrained(tmp_path / "tiny")
    code, out, err = run("prepare", "tiny", "--evaluator", str(tmp_path), "--segmenter", "none")
    assert code == 1
    (told,) = [line for line in err.splitlines() if line.startswith("evaluator: failed. ")]
    assert "has neither model.safetensors" in told
    assert "Not ready: evaluator (see above)" in err.splitlines()[-1]
    assert "image: " in out
    assert len(list((tmp_path / "data" / "covariance").glob("*.safetensors"))) == 1


def test_captions_of_ones_own_are_the_only_ones_that_are_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They replace an earlier covariance; nothing is estimated from the built-in captions."""
    sources: list[object] = []
    estimate = BaseModel.estimate_covariance

    def seen(self: BaseModel, source: list[str] | None = None, **options: object) -> Covariance:
        sources.append(source)
        return estimate(self, source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(BaseModel, "estimate_covariance", seen)
    tiny_pipeline("sd1").save_pretrained(tmp_path / "tiny")
    words = ["a photo of a robot", "a teddy on the beach", "a red car", "two dogs at night"] * 200
    (tmp_path / "captions.txt").write_text("\n".join(words), "utf-8")
    none = ("--evaluator", "none", "--segmenter", "none")
    for options in ((), ("--positions", "content")):
        code, out, err = run("prepare", "tiny", *none, "--captions", "captions.txt", *options)
        assert code == 0, err
    assert sources == [words, words]
    (kept,) = (tmp_path / "data" / "covariance").glob("*.safetensors")
    assert Covariance.load(kept).caption_count == len(words)
    assert f"covariance fingerprint: {Covariance.load(kept).fingerprint}" in out


def test_what_is_wrong_is_refused_in_a_sentence(run: Run, tmp_path: Path) -> None:
    assert "no caption file" in refused(run("prepare", "x", "--captions", "nowhere.txt"))
    code, _, err = run("prepare", "x", "--positions", "some")
    assert code == 2 and "--positions" in err and "'one-per-caption'" in err
    none = ("--evaluator", "none", "--segmenter", "none")
    assert str(tmp_path) in refused(run("prepare", str(tmp_path), *none))


@pytest.mark.slow
def test_the_shipped_base_model_needs_no_network(run: Run) -> None:
    code, out, err = run("prepare", str(ROOT / "models" / "base"), "--segmenter", "none")
    assert code == 0, err
    assert "evaluator: evaluator works" in out
