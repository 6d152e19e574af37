"""Columns for progress, sizes and the deployment's id, and a table for blobs.

The previous release can run on this schema, because it does not read the columns and leaves them
empty. It never deletes a job, so the foreign key that now protects a job's images does not affect
it.

Revision ID: c0001
Revises: none; it follows 0005 of the other series
"""

import sqlalchemy as sa
from alembic import op

revision = "c0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Never recreate this table: SQLite would drop it, and the foreign keys would delete all events
    # of its jobs.
    with op.batch_alter_table("jobs", recreate="never") as table:
        table.add_column(sa.Column("faulted_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("state_attempt", sa.Integer(), nullable=True))
        table.add_column(sa.Column("state_step", sa.Integer(), nullable=True))
        table.add_column(sa.Column("preview_attempt", sa.Integer(), nullable=True))
    with op.batch_alter_table("pictures", recreate="never") as table:
        table.add_column(_size_bytes())
    # SQLite recreates this table to change its foreign key; no other table refers to this table.
    with op.batch_alter_table("images") as table:
        table.add_column(_size_bytes())
        table.drop_constraint(op.f("fk_images_job_id"), type_="foreignkey")
        table.create_foreign_key(
            op.f("fk_images_job_id"), "jobs", ["job_id"], ["id"], ondelete="RESTRICT"
        )
    op.create_table(
        "deployment",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
    )
    op.create_table(
        "blobs",
        sa.Column("key", _bytewise(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_blobs")),
    )


def downgrade() -> None:
    op.drop_table("blobs")
    op.drop_table("deployment")
    with op.batch_alter_table("images") as table:
        table.drop_constraint(op.f("fk_images_job_id"), type_="foreignkey")
        table.create_foreign_key(
            op.f("fk_images_job_id"), "jobs", ["job_id"], ["id"], ondelete="CASCADE"
        )
        table.drop_column("size_bytes")
    with op.batch_alter_table("pictures", recreate="never") as table:
        table.drop_column("size_bytes")
    with op.batch_alter_table("jobs", recreate="never") as table:
        for name in ("preview_attempt", "state_step", "state_attempt", "faulted_at"):
            table.drop_column(name)


def _size_bytes() -> sa.Column[int]:
    return sa.Column("size_bytes", sa.BigInteger(), nullable=False, server_default="0")


def _bytewise() -> sa.types.TypeEngine[str]:
    return sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql")
