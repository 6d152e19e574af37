"""The laws of the service hold on PostgreSQL as on SQLite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.stack.servers import Postgres

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(900)
def test_the_laws_of_jobs_hold_on_postgres_as_on_sqlite(postgres: Postgres) -> None:
    """Run on PostgreSQL the test files that `make test` runs on SQLite, with the state machine."""
    laws = (
        *("execution/lease_machine", "execution/leases", "execution/retries"),
        *("execution/reconciler", "execution/lost_answers", "execution/checkpoints"),
        *("jobs/job_order", "jobs/deletion", "garbage/collection", "garbage/retention"),
        *(f"concepts/{law}" for law in ("use_cases", "creation", "idempotency", "import")),
        *("concepts/changes", "concepts/pictures"),
        *(f"concepts/trainings/{law}" for law in ("requests", "replacement", "file_before")),
        *("generations/requests", "images/use_cases", "webhooks/outbox"),
        *("auth_keys", "base_models_and_workers", "deployment", "quota"),
    )
    files = [Path("tests/unit/service", law) for law in laws]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *(str(file.with_name(f"test_{file.name}.py")) for file in files),
        ],
        cwd=ROOT,
        env=os.environ | {"TEST_POSTGRES_URL": postgres.url()},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-6000:]
