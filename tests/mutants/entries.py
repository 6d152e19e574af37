"""The list of deliberate breaks, mutants.toml, as objects."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One break: in `file` the text `old` becomes `new`, and then `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str
    # The test runs on real servers, with the mark that `make test` leaves out.
    servers: bool = False
    # The break makes the test wait without end, so running out of time counts as its failure.
    hangs: bool = False

    def apply(self, folder: Path) -> str:
        """Break the file under `folder`; return its text from before."""
        path = folder / self.file
        before = path.read_text()
        if before.count(self.old) != 1:
            raise DoesNotApply
        path.write_text(before.replace(self.old, self.new))
        return before


class DoesNotApply(Exception):
    """The old text is not in the file, or more than once."""


def load() -> list[Mutant]:
    """Return every mutant of the list."""
    return [Mutant(**entry) for entry in tomllib.loads(LIST.read_text())["mutant"]]
