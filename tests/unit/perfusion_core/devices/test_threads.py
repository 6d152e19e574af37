"""Threads that wait spin for a moment and then sleep, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest

from perfusion_core.devices.threads import wait_briefly


def test_waiting_threads_spin_for_a_moment_and_then_sleep() -> None:
    environment: dict[str, str] = {}
    wait_briefly(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize(
    "own", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}]
)
def test_a_policy_of_the_environment_is_kept(own: dict[str, str]) -> None:
    environment = dict(own)
    wait_briefly(environment)
    assert environment == own


def test_a_number_of_spins_is_kept_without_a_policy() -> None:
    environment = {"GOMP_SPINCOUNT": "7"}
    wait_briefly(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}


def test_every_command_sets_it_before_torch_is_imported() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "from api import __main__ as command\n"
            "command.build = lambda: lambda prog_name: print(\n"
            "    'torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])\n"
            "command.main()",
        ],
        env={name: value for name, value in os.environ.items() if not name.startswith("OMP_WAIT")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.split() == ["False", "PASSIVE"]
