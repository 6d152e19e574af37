"""The verdict on a concept's operating curve, so that lists do not need to open its file.

The previous release can run at the same time: it neither writes nor reads the column.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Never recreate this table: SQLite would drop it, and the foreign key would delete all pictures of
# its concepts.


def upgrade() -> None:
    with op.batch_alter_table("concepts", recreate="never") as table:
        table.add_column(sa.Column("judgement", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("concepts", recreate="never") as table:
        table.drop_column("judgement")
