"""A column for concepts whose LoRA was asked for.

The previous release can run at the same time: it neither writes nor reads the column, and its
collector leaves the folder `exports/` alone.

Revision ID: c0011
Revises: c0010
"""

import sqlalchemy as sa
from alembic import op

revision = "c0011"
down_revision = "c0010"
branch_labels = None
depends_on = None

# Never recreate this table: SQLite would drop it, and the foreign keys would delete the rows that
# refer to it.


def upgrade() -> None:
    with op.batch_alter_table("concepts", recreate="never") as table:
        table.add_column(
            sa.Column("export_requested_at", sa.DateTime(timezone=True), nullable=True)
        )
    requested = sa.text("export_requested_at IS NOT NULL")
    op.create_index(
        "ix_concepts_export_requested_at",
        "concepts",
        ["export_requested_at"],
        postgresql_where=requested,
        sqlite_where=requested,
    )


def downgrade() -> None:
    op.drop_index("ix_concepts_export_requested_at", "concepts")
    with op.batch_alter_table("concepts", recreate="never") as table:
        table.drop_column("export_requested_at")
