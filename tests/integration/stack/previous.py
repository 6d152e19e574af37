"""Earlier releases: code from the git history, which runs in this environment."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
COMMIT = (ROOT / "tests" / "integration" / "stack" / "previous-release").read_text().strip()
_PACKAGES = ("api", "worker", "service", "perfusion_core", "migrations")


def extract(folder: Path, *, commit: str = COMMIT, repository: Path = ROOT) -> Path:
    """Write the packages of an earlier release into `folder`, and return it.

    A clone without that commit raises an error, because a skipped test would prove nothing.
    """
    archive = subprocess.run(
        ["git", "-C", str(repository), "archive", commit, *_PACKAGES], capture_output=True
    )
    if archive.returncode:
        raise RuntimeError(
            f"The earlier release, commit {commit}, is not in this repository. The test of "
            "upgrades needs the whole history: run `git fetch --unshallow`, or clone without "
            f"--depth. git says: {archive.stderr.decode(errors='replace').strip()}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder
