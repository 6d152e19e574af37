"""Options and order of the whole suite, and logs that no test leaves behind."""

import logging
from collections.abc import Iterator

import pytest
import structlog

# Where several processes share the files, a long one must not begin last.
_LONGEST = (
    "tests/chaos/test_chaos.py",
    "tests/integration/postgres/test_service_laws.py",
    "tests/integration/upgrade/test_two_releases.py",
    "tests/security/test_fuzzed_requests.py",
    "tests/integration/test_compose_commands.py",
    "tests/deployment/test_wheel.py",
    "tests/unit/perfusion_core/test_strength.py",
    "tests/integration/test_killed.py",
    "tests/integration/test_blobs_in_the_file.py",
    "tests/e2e/test_create.py",
    "tests/e2e/test_rooms.py",
    "tests/unit/worker/jobs/test_judged_training.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-seeds",
        type=int,
        default=1,
        help="how many seeds of chaos to run (with -m servers); each takes about two minutes",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    places = {file: place for place, file in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.location[0], len(places)))


@pytest.fixture(autouse=True)
def _logs_restored() -> Iterator[None]:
    """Undo `log.configure`, which commands call in the test's own process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
