"""Columns for inspections: a job's own kind, what an inspection found, a picture's crop.

The previous release can run on this schema. The column `kind` still contains only the two kinds
that it knows, which are the names of the queues, because its check allows no other. The previous
release shows a job of a new kind as the kind of the job's queue. Its workers give such a job back,
because they cannot read the job's payload. They ignore a crop.

Revision ID: c0003
Revises: c0002
"""

import sqlalchemy as sa
from alembic import op

revision = "c0003"
down_revision = "c0002"
branch_labels = None
depends_on = None

# Never recreate these tables: SQLite would drop them, and the foreign keys would delete all events
# of its jobs.


def upgrade() -> None:
    with op.batch_alter_table("jobs", recreate="never") as table:
        table.add_column(sa.Column("own_kind", sa.String(length=16), nullable=True))
        table.add_column(sa.Column("inspection", sa.JSON(), nullable=True))
    with op.batch_alter_table("pictures", recreate="never") as table:
        table.add_column(sa.Column("crop", sa.JSON(), nullable=True))
    has_own_kind = sa.text("own_kind IS NOT NULL")
    op.create_index(
        "ix_jobs_own_kind_finished_at",
        "jobs",
        ["own_kind", "finished_at"],
        postgresql_where=has_own_kind,
        sqlite_where=has_own_kind,
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_own_kind_finished_at", "jobs")
    with op.batch_alter_table("pictures", recreate="never") as table:
        table.drop_column("crop")
    with op.batch_alter_table("jobs", recreate="never") as table:
        for name in ("inspection", "own_kind"):
            table.drop_column(name)
