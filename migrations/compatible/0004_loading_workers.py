"""A table for workers that load their models, and so do no jobs yet.

The previous release can run on this schema, because it does not know the table: its workers stay
silent while they load, as before.

Revision ID: c0004
Revises: c0003
"""

import sqlalchemy as sa
from alembic import op

revision = "c0004"
down_revision = "c0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "loading_workers",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_loading_workers")),
    )


def downgrade() -> None:
    op.drop_table("loading_workers")
