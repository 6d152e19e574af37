"""A log has one line per event with the bound ids, as text or as JSON."""

import json
import logging

import pytest
import structlog

from perfusion_core.errors import PerfusionError
from service import log
from service.settings.environment import Settings


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_carry_the_bound_ids(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Settings(log_format="json"))
    with log.bound(job_id="job_1"):
        structlog.get_logger("worker").info("claimed", attempt=2)
        logging.getLogger("library").warning("something %s", "odd", extra={"prompt": "a cat"})
        logging.getLogger("perfusion.training").info("training.scored", extra={"step": 3})
    structlog.get_logger().debug("too quiet")
    ours, theirs, core = lines(capsys.readouterr().err)
    assert (ours["event"], ours["attempt"], ours["job_id"]) == ("claimed", 2, "job_1")
    assert (theirs["event"], theirs["level"], theirs["job_id"]) == (
        "something odd",
        "warning",
        "job_1",
    )
    assert "prompt" not in theirs
    assert (core["event"], core["step"], core["job_id"]) == ("training.scored", 3, "job_1")
    assert str(ours["timestamp"]).endswith("Z")


def test_people_get_words(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Settings(log_level="warning"))
    structlog.get_logger().warning("notify_failed", job_id="job_1")
    structlog.get_logger().info("unheard")
    written = capsys.readouterr().err
    assert "notify_failed" in written
    assert "unheard" not in written


@pytest.mark.parametrize("known", [True, False])
def test_a_command_shows_the_trace_of_what_is_unexpected_alone(
    capsys: pytest.CaptureFixture[str], known: bool
) -> None:
    log.configure(Settings(log_level="warning"), for_command=True)
    try:
        raise PerfusionError("No such folder.") if known else ValueError("What is this?")
    except Exception as error:
        structlog.get_logger().warning("not_loaded", problem=str(error), exc_info=True)
    written = capsys.readouterr().err
    assert "not_loaded" in written
    assert ("Traceback" in written) is not known
