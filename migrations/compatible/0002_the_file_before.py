"""Columns for a concept's previous file and its data, which a second training replaces.

The previous release can run on this schema, because it neither reads nor writes the columns. Its
collector may remove the previous file; then a revert is not possible.

Revision ID: c0002
Revises: c0001
"""

import sqlalchemy as sa
from alembic import op

revision = "c0002"
down_revision = "c0001"
branch_labels = None
depends_on = None

# Never recreate this table: SQLite would drop it, and the foreign key would delete all pictures of
# its concepts.


def upgrade() -> None:
    with op.batch_alter_table("concepts", recreate="never") as table:
        table.add_column(sa.Column("revision", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("previous_blob_key", sa.String(length=200), nullable=True))
        table.add_column(sa.Column("previous_job_id", sa.String(length=48), nullable=True))
        table.add_column(sa.Column("previous", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("concepts", recreate="never") as table:
        for name in ("previous", "previous_job_id", "previous_blob_key", "revision"):
            table.drop_column(name)
