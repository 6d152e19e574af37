"""The concept file: what is written is read, and nothing else is."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from perfusion_core.concept import MAX_CONCEPT_BYTES, Concept
from perfusion_core.errors import ConceptFileError, FingerprintMismatch

draw = np.random.default_rng(3)


def vector(size: int) -> np.ndarray:
    return draw.standard_normal(size).astype(np.float32)


SD15 = Concept(
    name="my-teddy",
    superclass="teddy bear",
    family="sd1",
    base_model_name="stable-diffusion-v1-5",
    base_model_fingerprint="0" * 32,
    covariance_fingerprint="1" * 32,
    o_v=vector(12_480),
    i_star=vector(768),
    e_super=vector(768),
    embeddings=(vector(768),),
    mask_source="alpha",
    training={"max_train_steps": 400, "learning_rate": 0.03, "resolution": 512},
)

OF_FORMAT_1 = replace(SD15, e_super=None)


def metadata(data: bytes) -> dict[str, str]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    result: dict[str, str] = header["__metadata__"]
    return result


def test_a_concept_is_read_as_it_was_written(tmp_path: Path) -> None:
    SD15.save(tmp_path / "c.safetensors")
    read = Concept.load(tmp_path / "c.safetensors")
    assert np.array_equal(read.o_v, SD15.o_v) and np.array_equal(read.i_star, SD15.i_star)
    assert read.e_super is not None and np.array_equal(read.e_super, vectors(SD15)["e_super"])
    assert np.array_equal(read.embeddings[0], SD15.embeddings[0])
    assert read.training == SD15.training and read.superclass == "teddy bear"
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_saved_file_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        SD15.save(tmp_path / "c.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "c.safetensors").stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [tmp_path / "c.safetensors"]


def vectors(concept: Concept) -> dict[str, np.ndarray]:
    return dict(load(concept.to_bytes()))


def test_a_file_of_format_1_is_read_and_has_no_encoding_of_its_superclass(tmp_path: Path) -> None:
    assert metadata(OF_FORMAT_1.to_bytes())["perfusion.format_version"] == "1"
    assert set(vectors(OF_FORMAT_1)) == {"o_v", "i_star", "embedding"}
    OF_FORMAT_1.save(tmp_path / "c.safetensors")
    read = Concept.load(tmp_path / "c.safetensors")
    assert read.e_super is None and np.array_equal(read.i_star, SD15.i_star)


PASSED_ON: dict[str, Callable[[Concept], Concept]] = {
    "read": lambda concept: concept,
    "renamed": lambda concept: concept.renamed("other"),
    "halved": lambda concept: Concept.from_bytes(concept.to_bytes("float16")),
}


@pytest.mark.parametrize("passed_on", PASSED_ON)
@pytest.mark.parametrize(("concept", "version"), [(SD15, "2"), (OF_FORMAT_1, "1")])
def test_a_concept_keeps_its_format_through_whatever_hands(
    concept: Concept, version: str, passed_on: str
) -> None:
    read = PASSED_ON[passed_on](Concept.from_bytes(concept.to_bytes()))
    assert read.format_version == version
    assert metadata(read.to_bytes())["perfusion.format_version"] == version
    assert set(vectors(read)) == set(vectors(concept))


def test_a_file_of_a_later_format_is_refused_with_the_versions_that_are_read() -> None:
    data = save(vectors(SD15), metadata=metadata(SD15.to_bytes()) | VERSION_3)
    with pytest.raises(ConceptFileError, match=r"version '3'.* versions 1 and 2: use the release"):
        Concept.from_bytes(data)


VERSION_3 = {"perfusion.format_version": "3"}


def test_the_same_concept_gives_the_same_bytes() -> None:
    assert SD15.to_bytes() == SD15.to_bytes() == Concept.from_bytes(SD15.to_bytes()).to_bytes()


def test_the_file_says_what_it_is_in_the_fields_words() -> None:
    said = metadata(SD15.to_bytes())
    assert said["modelspec.architecture"] == "stable-diffusion-v1/perfusion"
    assert said["modelspec.trigger_phrase"] == "<my-teddy>"
    assert said["modelspec.resolution"] == "512x512"


def test_two_encoders_have_two_embeddings() -> None:
    xl = replace(SD15, family="sdxl", embeddings=(vector(768), vector(1280)))
    assert len(Concept.from_bytes(xl.to_bytes()).embeddings) == 2


def with_tensors(**changed: np.ndarray) -> bytes:
    data = SD15.to_bytes()
    tensors = {k: v for k, v in (load(data) | changed).items() if v is not None}
    return save(tensors, metadata=metadata(data))


BAD = {
    "empty": b"",
    "text": b"not a concept at all, whatever its name",
    "a pickle": pickle.dumps({"o_v": [1.0]}),
    "a zip, as torch.save writes": b"PK\x03\x04" + bytes(100),
    "truncated": SD15.to_bytes()[:-100],
    "cut in the header": SD15.to_bytes()[:60],
    "longer than it says": SD15.to_bytes() + b"x",
    "another safetensors file": save({"weight": vector(4)}),
    "a header of 8 EB": b"\xff" * 16,
    "not a number": with_tensors(o_v=np.full(12_480, np.nan, np.float32)),
    "infinite": with_tensors(i_star=np.full(768, np.inf, np.float32)),
    "a matrix": with_tensors(o_v=np.zeros((4, 4), np.float32)),
    "whole numbers": with_tensors(o_v=np.zeros(8, np.int64)),
    "no encoding of the superclass": save(vectors(OF_FORMAT_1), metadata=metadata(SD15.to_bytes())),
    "an encoding of the superclass in format 1": save(
        vectors(SD15), metadata=metadata(OF_FORMAT_1.to_bytes())
    ),
    "an encoding of the superclass of another width": with_tensors(e_super=vector(767)),
    "an encoding of the superclass that is not finite": with_tensors(
        e_super=np.full(768, np.inf, np.float32)
    ),
    "an empty vector": with_tensors(o_v=np.zeros(0, np.float32)),
    "one tensor too many": with_tensors(extra=vector(2)),
    "a target input of zeros": with_tensors(i_star=np.zeros(768, np.float32)),
    "a target input that is next to nothing": with_tensors(i_star=np.full(768, 1e-30, np.float32)),
    "too large": bytes(MAX_CONCEPT_BYTES + 1),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_in_a_sentence(what: str) -> None:
    with pytest.raises(ConceptFileError) as refused:
        Concept.from_bytes(BAD[what])
    assert str(refused.value).endswith(".") and "Traceback" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("perfusion.name", "../etc"), ("perfusion.superclass", ""), ("perfusion.training", "[]"),
     ("perfusion.training", "{"), ("perfusion.format_version", "99")],
)  # fmt: skip
def test_bad_metadata_is_refused(key: str, value: str) -> None:
    data = SD15.to_bytes()
    with pytest.raises(ConceptFileError):
        Concept.from_bytes(save(load(data), metadata=metadata(data) | {key: value}))


@given(st.integers(0, 1500), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_is_refused_or_harmless(position: int, value: int) -> None:
    data = bytearray(SD15.to_bytes())
    data[position] = value
    try:
        concept = Concept.from_bytes(bytes(data))
    except ConceptFileError:
        return
    assert all(np.isfinite(v).all() for v in vectors(concept).values())


def test_a_concept_of_another_base_model_is_refused_with_both_fingerprints() -> None:
    with pytest.raises(FingerprintMismatch, match=f"base model {'0' * 32}.*{'a' * 32}"):
        SD15.check_compatible(base_model="a" * 32, covariance="1" * 32)
    with pytest.raises(FingerprintMismatch, match="covariance"):
        SD15.check_compatible(base_model="0" * 32, covariance="b" * 32)
    SD15.check_compatible(base_model="0" * 32, covariance="1" * 32)
