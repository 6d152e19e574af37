"""The results of a generation besides its images: warnings, attention maps, concepts present.

The previous release can run at the same time: it does not read the columns and leaves them empty.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Never recreate this table: SQLite would drop it, and the foreign keys would delete all images and
# events of its jobs.


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
