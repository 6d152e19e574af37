"""The command `perfusion`.

The command's exit code is 0 only if the command did what the caller asked.

An expected error prints one sentence to stderr and has exit code 1; wrong usage has exit code 2.
"""

import os
import sys

from api.cli.commands import build
from api.cli.errors import CommandError
from api.cli.options import WrongOption
from perfusion_core.devices.threads import wait_briefly
from perfusion_core.errors import PerfusionError
from service.errors import ServiceError
from service.settings.environment import SettingsError

_EXPECTED = (CommandError, WrongOption, PerfusionError, ServiceError, SettingsError)


def main() -> None:
    """Run the command line that was given to this process."""
    # OpenMP reads this when torch is imported, which happens later.
    wait_briefly(os.environ)
    try:
        build()(prog_name="perfusion")
    except _EXPECTED as error:
        _fail(str(error))
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _fail(f"{name}{error.strerror or error}.")


def _fail(sentence: str) -> None:
    print(f"perfusion: {sentence}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
