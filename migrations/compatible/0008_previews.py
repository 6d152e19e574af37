"""What an honest estimate, an early finish and the previews of a generation need.

The previous release can run at the same time: it neither writes nor reads the columns.

Revision ID: c0008
Revises: c0005
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "c0008"
down_revision = "c0005"
branch_labels = None
depends_on = None

# Never recreate the table: SQLite would drop it, and the foreign keys would delete the rows that
# refer to it.
_COLUMNS: list[sa.Column[Any]] = [
    sa.Column("eta_seconds", sa.Float(), nullable=True),
    sa.Column("finish_step", sa.Integer(), nullable=True),
    sa.Column("previews_wanted_at", sa.DateTime(timezone=True), nullable=True),
]


def upgrade() -> None:
    with op.batch_alter_table("jobs", recreate="never") as table:
        for column in _COLUMNS:
            table.add_column(column)


def downgrade() -> None:
    with op.batch_alter_table("jobs", recreate="never") as table:
        for column in _COLUMNS:
            table.drop_column(column.name)
