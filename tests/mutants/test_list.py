"""Each mutant of the list still applies, and names a test that exists."""

import re

import pytest

from tests.mutants.__main__ import main
from tests.mutants.entries import ROOT, Mutant, load

MUTANTS = load()


def test_there_are_at_least_forty_mutants_each_with_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_to_one_place_and_names_a_test_that_is_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new
    file, _, name = mutant.test.partition("::")
    source = (ROOT / file).read_text()
    assert re.search(rf"^def {re.escape(name.partition('[')[0])}\(", source, re.MULTILINE)
    assert mutant.servers == ("pytest.mark.servers" in source)


def test_words_that_no_mutant_has_run_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 2
    assert "No mutant" in capsys.readouterr().out
