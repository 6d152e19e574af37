"""Turns, so that one owner's jobs do not block another's, and the earliest time to claim a job.

The previous release can run at the same time: it reads neither column, and its jobs have turn 0,
the first turn.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Never recreate this table: SQLite would drop it, and the foreign keys would delete all images and
# events of its jobs.


def upgrade() -> None:
    with op.batch_alter_table("jobs", recreate="never") as table:
        table.add_column(sa.Column("turn", sa.BigInteger(), server_default="0", nullable=False))
        table.add_column(sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
        table.drop_index("ix_jobs_kind_status_created_at_id")
        table.create_index(
            "ix_jobs_kind_status_turn_created_at_id",
            ["kind", "status", "turn", "created_at", "id"],
        )
        table.create_index(
            "ix_jobs_owner_id_status_kind_turn", ["owner_id", "status", "kind", "turn"]
        )


def downgrade() -> None:
    with op.batch_alter_table("jobs", recreate="never") as table:
        table.drop_index("ix_jobs_owner_id_status_kind_turn")
        table.drop_index("ix_jobs_kind_status_turn_created_at_id")
        table.create_index(
            "ix_jobs_kind_status_created_at_id", ["kind", "status", "created_at", "id"]
        )
        table.drop_column("not_before")
        table.drop_column("turn")
