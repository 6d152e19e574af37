"""A placeholder that names no concept is refused with the nearest names."""

import difflib
from typing import Any

import pytest

from service.generations import unknown_names as near
from service.wiring import Service
from tests.unit.service.generations.requested import refused
from tests.unit.service.staging import STRANGER, ready


def test_an_unknown_placeholder_is_answered_with_the_nearest_names(service: Service) -> None:
    assert "no concept that is ready" in refused(service, "a <teddy>").detail
    for name in ("teddy", "red-teapot", "rex"):
        ready(service, name)
    error = refused(service, "a <tedy> beside a <red-teapots>")
    assert error.slug == "unknown-placeholder"
    assert [item.pointer for item in error.errors] == ["/prompt", "/prompt"]
    assert "<teddy>" in error.errors[0].detail
    assert "<red-teapot>" in error.errors[1].detail
    assert "Yours are" in refused(service, "a <zzzzzz>").detail


def test_the_search_for_what_was_meant_holds_no_transaction_open(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(service, "teddy")
    searched = []

    def searching(*arguments: Any) -> dict[str, list[str]]:
        with service.database.write() as session:  # another request is accepted meanwhile
            searched.append(service.database.now(session))
        return found(*arguments)

    found = near.nearest
    monkeypatch.setattr(near, "nearest", searching)
    assert "<teddy>" in refused(service, "a <tedy>").detail
    assert searched


def test_a_refusal_costs_few_comparisons_whatever_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    close = difflib.get_close_matches

    def counting(word: str, candidates: list[str], **options: Any) -> list[str]:
        compared.append(len(candidates))
        return close(word, candidates, **options)

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    names = [f"a-concept-with-a-long-name-{k}" for k in range(1000)]
    assert near.nearest(["a-concept-with-a-long-nam-77"], names)
    assert compared == [8]


def test_of_many_unknown_names_a_few_are_told_what_is_near(service: Service) -> None:
    ready(service, "teddy")
    error = refused(service, " ".join(f"<tedd{k}>" for k in range(8)))
    assert len(error.errors) == 8
    assert [("nearest" in item.detail) for item in error.errors] == [True] * 4 + [False] * 4


def test_another_owners_concept_is_as_unknown_as_none(service: Service) -> None:
    ready(service, "teddy", owner_id=STRANGER)
    assert "no concept that is ready" in refused(service, "a <teddy>").detail
