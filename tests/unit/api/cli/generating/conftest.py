"""Commands that make images run in an empty folder."""

from tests.unit.api.cli.test_commands import run

__all__ = ["run"]  # the fixture
