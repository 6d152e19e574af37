"""Options of the whole suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-seeds",
        type=int,
        default=1,
        help="how many seeds of chaos to run (with -m servers); each takes about two minutes",
    )
