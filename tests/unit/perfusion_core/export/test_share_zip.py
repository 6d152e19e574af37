"""The zip to share, and what a file from outside turns out to be."""

import io
import json
import pickle
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import save

from perfusion_core.concept import MAX_CONCEPT_BYTES, Concept
from perfusion_core.errors import ConceptFileError
from perfusion_core.evaluation.curve import STRENGTHS, Curve, Point, Similarity
from perfusion_core.evaluation.record import Evaluation, EvaluatorRef
from perfusion_core.evaluation.verdict import Verdict
from perfusion_core.export.card import write_card
from perfusion_core.export.embedding import export_embedding
from perfusion_core.export.recognition import concept_bytes, recognise
from perfusion_core.export.share_zip import concept_of_zip, pack, share_files
from perfusion_core.imaging.thumbnails import thumbnail

draw = np.random.default_rng(5)
LORA = save(
    {
        "lora_unet_mid_block_attn2_to_k.lora_down.weight": np.ones((4, 8), np.float32),
        "lora_unet_mid_block_attn2_to_k.lora_up.weight": np.ones((8, 4), np.float32),
    }
)


def vector(size: int) -> np.ndarray:
    return draw.standard_normal(size).astype(np.float32)


PLAIN = Concept(
    name="rex",
    superclass="owl",
    family="sd1",
    base_model_name="stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe1",
    base_model_fingerprint="0" * 32,
    covariance_fingerprint="1" * 32,
    o_v=vector(64),
    i_star=vector(32),
    e_super=vector(32),
    embeddings=(vector(32),),
    mask_source="alpha",
    training={"steps": 160, "resolution": 512},
)
MEASURED = replace(
    PLAIN,
    evaluation=Evaluation(
        evaluator=EvaluatorRef("clip", "e" * 32),
        reference=vector(16),
        curve=Curve(
            prompts=("a photo of {}",),
            superclass=Similarity(0.5, 0.4),
            ceiling=0.9,
            points=tuple(
                Point(s, Similarity(0.6 + k / 100, 0.39)) for k, s in enumerate(STRENGTHS)
            ),
        ),
        thumbnails=tuple(
            thumbnail(Image.new("RGB", (64, 64), (30 * k, 80, 90))) for k in range(len(STRENGTHS))
        ),
    ),
)


def shared(concept: Concept) -> dict[str, bytes]:
    return share_files(
        concept, concept_file=concept.to_bytes(), lora=LORA, dtype="float16",
        judged=Verdict("good", ("It is well known.",)),
    )  # fmt: skip


def test_a_zip_holds_concept_lora_embedding_card_and_sheet_in_the_same_bytes_each_time() -> None:
    packed = pack(shared(MEASURED))
    assert packed == pack(shared(MEASURED))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert set(archive.namelist()) == {
            "README.md", "rex.safetensors", "rex.lora.safetensors", "rex.embedding.safetensors",
            "sheet.png",
        }  # fmt: skip
        assert archive.read("rex.lora.safetensors") == LORA
        sheet = Image.open(io.BytesIO(archive.read("sheet.png")))
    assert sheet.width > 7 * 128
    assert concept_of_zip(packed) == MEASURED.to_bytes() == concept_bytes(packed)


def test_a_card_has_the_hubs_header_and_says_the_scale_and_the_verdict() -> None:
    card = shared(MEASURED)["README.md"].decode()
    header = yaml.safe_load(card.split("---")[1])
    assert header["base_model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert header["instance_prompt"] == "a photo of a <rex>" and header["license"] == "unknown"
    assert header["widget"][0]["output"] == {"url": "sheet.png"}
    assert "**good**: It is well known." in card
    assert 'set_adapters("rex", 0.9907)' in card and 'revision="451f4fe1"' in card
    assert "An owl that" in card


def test_a_card_of_a_local_base_model_without_figures_claims_nothing() -> None:
    card = write_card(replace(PLAIN, base_model_name="base"), license="cc-by-4.0")
    header = yaml.safe_load(card.split("---")[1])
    assert "base_model" not in header and "widget" not in header
    assert header["license"] == "cc-by-4.0" and "sheet.png" not in card
    assert "not measured" in card and "0.8808" in card


def zipped(*files: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", how) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (zipped(("rex.safetensors", bytes(MAX_CONCEPT_BYTES + 1))), "bytes"),
        (zipped(*((f"{k}.txt", b"") for k in range(65))), "64 entries"),
        (zipped(("rex.lora.safetensors", LORA)), "no concept file"),
        (zipped(("sub/rex.safetensors", b"")), "no concept file"),
        (zipped(("a.safetensors", b""), ("b.safetensors", b"")), "2 concept files"),
        (zipped(("rex.safetensors", b"x" * 99))[:-9], "damaged"),
        (zipped(("rex.safetensors", draw.bytes(999)))[:40] + bytes(1200), "damaged"),
        (LORA, "is a LoRA"),
        (export_embedding(PLAIN), "is an embedding"),
        (pickle.dumps({"state_dict": 1}), "is a pickle"),
    ],
)
def test_what_is_no_concept_is_refused_with_what_it_is(data: bytes, told: str) -> None:
    with pytest.raises(ConceptFileError, match=told):
        concept_bytes(data)


def test_a_bomb_is_unpacked_no_further_than_a_concept_is_large() -> None:
    bomb = zipped(("rex.safetensors", bytes(64 * 1024 * 1024)))
    assert len(bomb) < MAX_CONCEPT_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(ConceptFileError, match="something else"):
            concept_of_zip(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * MAX_CONCEPT_BYTES


def test_files_are_recognised_by_their_content() -> None:
    kinds = {
        "concept": PLAIN.to_bytes(),
        "lora": LORA,
        "embedding": save({"emb_params": np.ones((2, 768), np.float32)}),
        "zip": pack(shared(PLAIN)),
        "safetensors": save({"weight": np.ones((3, 3, 3), np.float32)}),
        "pickle": pickle.dumps([1], protocol=4),
        "other": b"hello, this is a text",
        "damaged": PLAIN.to_bytes()[:-5],
    }
    assert {kind: recognise(data).kind for kind, data in kinds.items()} == {k: k for k in kinds}
    assert recognise(export_embedding(PLAIN)).is_own
    header = json.dumps({"a": {"shape": 3}}).encode()
    assert recognise(len(header).to_bytes(8, "little") + header).kind == "damaged"
