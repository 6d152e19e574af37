"""What a generation tells beside its images: warnings, where each word acted, who is there.

The previous release may run beside this: it reads none of the columns, and leaves them empty.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Never recreated: on SQLite that would drop the table, and with it, by their foreign keys, every
# image and event of every job.


def upgrade() -> None:
    with op.batch_alter_table("jobs", recreate="never") as table:
        table.add_column(sa.Column("warnings", sa.JSON(none_as_null=True), nullable=True))
    with op.batch_alter_table("images", recreate="never") as table:
        table.add_column(sa.Column("attention_maps", sa.JSON(none_as_null=True), nullable=True))
        table.add_column(sa.Column("presence", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("images", recreate="never") as table:
        table.drop_column("presence")
        table.drop_column("attention_maps")
    with op.batch_alter_table("jobs", recreate="never") as table:
        table.drop_column("warnings")
