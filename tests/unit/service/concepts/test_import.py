"""An imported concept file is not trusted: it is checked to be a concept of this base model."""

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from sqlalchemy import event

from perfusion_core.concept import MAX_TRAINING_BYTES, Concept
from perfusion_core.imaging.thumbnails import is_thumbnail
from perfusion_core.shared_parts import SharedParts
from service.concepts import curves, imports, rows
from service.concepts import use_cases as concepts
from service.database.tables import ConceptRow
from service.errors import Conflict, Invalid, NotFound, TooLarge, Unavailable
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    blob_keys,
    core_concept,
    evaluation,
    ready,
    register_base_model,
    submit,
)


@pytest.fixture(autouse=True)
def base_model(service: Service) -> None:
    register_base_model(service)


def test_an_imported_concept_is_ready_at_once(service: Service) -> None:
    core = core_concept()
    view = imports.import_file(service, OWNER, data=core.to_bytes())
    assert (view.name, view.superclass, view.status.value) == ("teddy", "bear", "ready")
    assert (view.job_id, view.mask_source) == (None, "uniform")
    assert view.ready_at == view.created_at
    file = concepts.read_file(service, OWNER, ref=view.id)
    assert file.sha256 == view.sha256
    assert len(file.data) == view.bytes
    np.testing.assert_array_equal(Concept.from_bytes(file.data).o_v, core.o_v)


def test_a_concept_may_be_imported_under_another_name(service: Service) -> None:
    data = core_concept().to_bytes()
    imports.import_file(service, OWNER, data=data)
    view = imports.import_file(service, OWNER, data=data, name="other")
    assert view.placeholder == "<other>"
    file = concepts.read_file(service, OWNER, ref="other")
    assert Concept.from_bytes(file.data).name == "other"


def test_a_file_in_half_precision_stays_so(service: Service) -> None:
    values = np.linspace(0, 1, 4000, dtype=np.float32)
    core = core_concept(o_v=values)
    small = imports.import_file(service, OWNER, data=core.to_bytes("float16"))
    large = imports.import_file(service, OWNER, data=core.to_bytes(), name="large")
    assert (small.bytes or 0) < 0.6 * (large.bytes or 0)


def test_a_taken_name_is_a_conflict(service: Service) -> None:
    data = core_concept().to_bytes()
    ready(service)
    before = blob_keys(service)
    with pytest.raises(Conflict) as caught:
        imports.import_file(service, OWNER, data=data)
    assert (caught.value.slug, blob_keys(service)) == ("name-taken", before)
    imports.import_file(service, STRANGER, data=data)
    submit(service, "rex")
    with pytest.raises(Conflict, match="it is training"):
        imports.import_file(service, OWNER, data=data, name="rex")


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("base_model_fingerprint", "base-model-mismatch"),
        ("covariance_fingerprint", "covariance-mismatch"),
    ],
)
def test_a_file_of_another_base_model_is_a_conflict_that_names_both(
    service: Service, field: str, what: str
) -> None:
    data = core_concept(**{field: "another-one"}).to_bytes()
    with pytest.raises(Conflict) as caught:
        imports.import_file(service, OWNER, data=data)
    own = "base-1" if what.startswith("base") else "cov-1"
    assert caught.value.slug == what
    assert "another-one" in caught.value.detail
    assert own in caught.value.detail
    assert blob_keys(service) == set()


def test_without_a_base_model_an_import_has_to_wait(make_service: object) -> None:
    fresh: Service = make_service()  # type: ignore[operator]
    with pytest.raises(Unavailable) as caught:
        imports.import_file(fresh, OWNER, data=core_concept().to_bytes())
    assert (caught.value.slug, caught.value.retry_after_seconds) == ("no-base-model", 10)


def foreign() -> bytes:
    return save({"x": np.zeros(3, np.float32)}, metadata={"format": "pt"})


def broken_metadata(**changes: str) -> bytes:
    data = core_concept().to_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] |= changes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


GOOD = core_concept().to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        GOOD[:100],
        GOOD[:-1],
        GOOD + b"x",
        GOOD[:-4] + b"\xff\xff\xff\xff",
        foreign(),
        pickle.dumps({"o_v": [1.0]}),
        b"\xff" * 64,
        (2**63).to_bytes(8, "little") + b"{}",
        broken_metadata(**{"perfusion.name": "../x"}),
        broken_metadata(**{"perfusion.superclass": "a b c d"}),
        broken_metadata(**{"perfusion.superclass": "a\0"}),
        broken_metadata(**{"perfusion.superclass": "\ud800"}),
        broken_metadata(**{"perfusion.mask_source": "guess"}),
        broken_metadata(**{"perfusion.base_model": "x" * 300}),
        broken_metadata(**{"perfusion.base_model": "\0"}),
        broken_metadata(**{"perfusion.training": '{"loss": NaN}'}),
        broken_metadata(**{"perfusion.training": '{"a": "\\u0000"}'}),
        broken_metadata(**{"perfusion.training": '{"a": "\\ud800"}'}),
        broken_metadata(**{"perfusion.training": "[]"}),
        broken_metadata(**{"perfusion.training": "[" * 50_000}),
        broken_metadata(**{"perfusion.training": '{"a":' + "[" * 50 + "]" * 50 + "}"}),
    ],
)
def test_what_is_no_whole_concept_file_is_refused(service: Service, data: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        imports.import_file(service, OWNER, data=data)
    assert caught.value.errors[0].pointer == "/file"
    caught.value.detail.encode()
    assert concepts.list_page(service, OWNER).items == ()
    assert blob_keys(service) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"o_v": np.ones(65, np.float32)},
        {"i_star": np.ones(17, np.float32), "e_super": np.ones(17, np.float32)},
        {"embeddings": (np.ones(15, np.float32),)},
    ],
)
@pytest.mark.parametrize("adapt", [False, True])
def test_vectors_of_other_sizes_than_the_base_models_are_refused(
    service: Service, changes: dict[str, Any], adapt: bool
) -> None:
    widths = {"value_width": 64, "encoding_width": 16, "embedding_widths": [16]}
    parts = SharedParts("texts-1", (40, 24))
    register_base_model(service, info={**widths, "shared_parts": parts.to_json()})
    imports.import_file(service, OWNER, data=GOOD)
    with pytest.raises(Invalid, match="base-1, but its vectors have other sizes") as caught:
        changed = core_concept(name="other", **changes).to_bytes()
        imports.import_file(service, OWNER, data=changed, adapt=adapt)
    assert (caught.value.slug, caught.value.errors[0].pointer) == ("concept-file", "/file")
    assert [item.name for item in concepts.list_page(service, OWNER).items] == ["teddy"]


def test_a_file_that_is_far_too_large_is_refused_unread(service: Service) -> None:
    with pytest.raises(TooLarge):
        imports.import_file(service, OWNER, data=bytes(3 * 1024**2))


@pytest.mark.parametrize("name", ["", "Teddy", "\ud800", "a\0"])
def test_the_new_name_is_checked(service: Service, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        imports.import_file(service, OWNER, data=GOOD, name=name)
    assert caught.value.errors[0].pointer == "/name"


def test_an_import_keeps_the_curve_and_what_it_says(service: Service) -> None:
    data = core_concept(evaluation=evaluation()).to_bytes()
    view = imports.import_file(service, OWNER, data=data, name="other")
    assert view.verdict is not None
    assert (view.verdict.quality, view.recommended_strength) == ("good", 0.6)
    assert concepts.get(service, OWNER, ref="other") == view
    curve = curves.get(service, OWNER, ref="other")
    assert [point.strength for point in curve.points] == [0.2, 0.6, 0.9]
    assert (curve.recommended_strength, curve.verdict) == (0.6, view.verdict)
    assert curve.prompts == ("a photo of a <other> on the beach",)
    exported = concepts.read_file(service, OWNER, ref="other").data
    again = imports.import_file(service, STRANGER, data=exported)
    assert again.verdict == view.verdict


@pytest.mark.parametrize(("changes", "version"), [({}, "2"), ({"e_super": None}, "1")])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_import_keeps_the_format_of_the_file(
    service: Service, changes: dict[str, Any], version: str, dtype: Any
) -> None:
    data = core_concept(**changes).to_bytes(dtype)
    imports.import_file(service, OWNER, data=data)
    assert concepts.read_file(service, OWNER, ref="teddy").data == data
    judged = core_concept("judged", evaluation=evaluation(), **changes).to_bytes(dtype)
    imports.import_file(service, OWNER, data=judged, name="other")
    for name in ("teddy", "other"):
        exported = concepts.read_file(service, OWNER, ref=name).data
        assert Concept.from_bytes(exported).format_version == version


def test_a_file_whose_superclass_has_an_encoding_of_another_width_is_refused(
    service: Service,
) -> None:
    data = core_concept(e_super=np.ones(15, np.float32)).to_bytes()
    with pytest.raises(Invalid, match="e_super and i_star are not of one length") as caught:
        imports.import_file(service, OWNER, data=data)
    assert caught.value.errors[0].pointer == "/file"


def test_a_half_file_with_a_curve_stays_half_as_long(service: Service) -> None:
    core = core_concept(o_v=np.linspace(0, 1, 8000, dtype=np.float32), evaluation=evaluation())
    half = imports.import_file(service, OWNER, data=core.to_bytes("float16"), name="half")
    whole = imports.import_file(service, OWNER, data=core.to_bytes(), name="whole")
    assert (whole.bytes or 0) - (half.bytes or 0) > 15_000


def test_pictures_in_a_file_are_never_kept_as_they_came(service: Service) -> None:
    found = evaluation()
    hidden = found.thumbnails[0] + b"<script>"  # behind the picture's end
    sent = replace(found, thumbnails=(hidden, *found.thumbnails[1:]))
    imports.import_file(service, OWNER, data=core_concept(evaluation=sent).to_bytes())
    kept = curves.read_thumbnail(service, OWNER, ref="teddy", index=0).data
    assert b"script" not in kept
    assert is_thumbnail(kept)
    assert b"script" not in concepts.read_file(service, OWNER, ref="teddy").data


def test_a_thumbnail_that_is_no_picture_is_refused_with_the_whole_file(service: Service) -> None:
    found = evaluation()
    sent = replace(found, thumbnails=(b"RIFF\0\0\0\0WEBPnonsense", *found.thumbnails[1:]))
    with pytest.raises(Invalid) as caught:
        imports.import_file(service, OWNER, data=core_concept(evaluation=sent).to_bytes())
    assert (caught.value.slug, caught.value.errors[0].pointer) == ("concept-file", "/file")
    assert concepts.list_page(service, OWNER).items == ()


def test_a_concept_that_was_never_evaluated_is_imported_without_a_verdict(service: Service) -> None:
    view = imports.import_file(service, OWNER, data=core_concept().to_bytes())
    assert (view.verdict, view.recommended_strength) == (None, None)
    with pytest.raises(NotFound) as caught:
        curves.get(service, OWNER, ref="teddy")
    assert caught.value.slug == "curve-not-found"
    assert "PERFUSION_EVALUATOR" in caught.value.detail


def test_training_options_that_no_training_writes_are_refused(service: Service) -> None:
    """The row would keep them, and every list would load them."""
    fits = {"note": "x" * (MAX_TRAINING_BYTES - 100)}
    view = imports.import_file(service, OWNER, data=core_concept(training=fits).to_bytes())
    assert view.training == fits
    large = core_concept("large", training={"note": "x" * MAX_TRAINING_BYTES}).to_bytes()
    with pytest.raises(Invalid, match="training options") as refused:
        imports.import_file(service, OWNER, data=large)
    assert refused.value.errors[0].pointer == "/file"
    assert len(blob_keys(service)) == 1


def test_a_list_does_not_load_what_an_earlier_release_has_imported(service: Service) -> None:
    imports.import_file(service, OWNER, data=core_concept("small").to_bytes())
    imports.import_file(service, OWNER, data=core_concept("large").to_bytes())
    with service.database.write() as session:
        row = rows.find(session, OWNER, ref="large")
        row.training = {"note": "x" * 1_800_000}
    loaded: list[str] = []

    def note(row: ConceptRow, _: object) -> None:
        loaded.append(str(vars(row)))

    event.listen(ConceptRow, "load", note)
    try:
        large, small = concepts.list_page(service, OWNER).items
    finally:
        event.remove(ConceptRow, "load", note)
    assert (large.training, small.training) == ({}, {"max_train_steps": 5})
    assert loaded
    assert sum(map(len, loaded)) < 10_000
    assert len(concepts.get(service, OWNER, ref="large").training["note"]) == 1_800_000
