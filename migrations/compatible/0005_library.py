"""What the library of images, sweeps, phases and an early finish of a training need.

The previous release can run at the same time: it neither writes nor reads the columns.

Revision ID: c0005
Revises: c0004
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "c0005"
down_revision = "c0004"
branch_labels = None
depends_on = None

# Never recreate these tables: SQLite would drop them, and the foreign keys would delete the rows
# that refer to them.
_COLUMNS: dict[str, list[sa.Column[Any]]] = {
    "concepts": [sa.Column("description", sa.Text(), nullable=True)],
    "images": [
        sa.Column("thumbnail_key", sa.String(length=200), nullable=True),
        sa.Column("cell", sa.JSON(none_as_null=True), nullable=True),
    ],
    "jobs": [
        sa.Column("phase", sa.String(length=16), nullable=True),
        sa.Column("finish_requested_at", sa.DateTime(timezone=True), nullable=True),
    ],
}


def upgrade() -> None:
    for name, columns in _COLUMNS.items():
        with op.batch_alter_table(name, recreate="never") as table:
            for column in columns:
                table.add_column(column)


def downgrade() -> None:
    for name, columns in _COLUMNS.items():
        with op.batch_alter_table(name, recreate="never") as table:
            for column in columns:
                table.drop_column(column.name)
