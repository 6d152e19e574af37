"""What a concept's second training replaces is kept: the file before, and what the row said of it.

The previous release runs on it: it neither reads nor writes the columns. Its collector does not
know the file before and may remove it; then there is nothing to go back to.

Revision ID: c0002
Revises: c0001
"""

import sqlalchemy as sa
from alembic import op

revision = "c0002"
down_revision = "c0001"
branch_labels = None
depends_on = None

# Never recreated: on SQLite that would drop the table, and with it, by their foreign key, every
# picture of every concept.


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
