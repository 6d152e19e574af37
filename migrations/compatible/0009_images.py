"""What a list of images needs: an index on an owner's newest images, and what searches compare.

Reading the prompt and the concepts from the payload of each image's job would take seconds for an
owner of 100,000 images. Images of earlier releases get the new columns here. The previous release
can run at the same time: it leaves the columns of its images empty, and a search then reads the
payloads of these few images.

Revision ID: c0009
Revises: c0008
"""

import sqlalchemy as sa
from alembic import op

revision = "c0009"
down_revision = "c0008"
branch_labels = None
depends_on = None

_JOBS_AT_ONCE = 1000
_JOBS = sa.table("jobs", sa.column("id", sa.String), sa.column("payload", sa.JSON))
_IMAGES = sa.table(
    "images",
    sa.column("job_id", sa.String),
    sa.column("searched_prompt", sa.Text),
    sa.column("concept_refs", sa.JSON),
)


def upgrade() -> None:
    # Never recreate this table: a large one would be copied.
    with op.batch_alter_table("images", recreate="never") as table:
        table.add_column(sa.Column("searched_prompt", sa.Text(), nullable=True))
        table.add_column(sa.Column("concept_refs", sa.JSON(none_as_null=True), nullable=True))
    op.create_index(
        op.f("ix_images_owner_id_created_at_id"), "images", ["owner_id", "created_at", "id"]
    )
    _fill(op.get_bind())


def downgrade() -> None:
    op.drop_index(op.f("ix_images_owner_id_created_at_id"), table_name="images")
    with op.batch_alter_table("images", recreate="never") as table:
        table.drop_column("concept_refs")
        table.drop_column("searched_prompt")


def _fill(connection: sa.Connection) -> None:
    """Copy prompts and concepts from the jobs' payloads, some jobs at a time."""
    with_images = sa.exists().where(_IMAGES.c.job_id == _JOBS.c.id)
    some = sa.select(_JOBS).where(with_images).order_by(_JOBS.c.id).limit(_JOBS_AT_ONCE)
    copied = (
        sa.update(_IMAGES)
        .where(_IMAGES.c.job_id == sa.bindparam("job"))
        .values(searched_prompt=sa.bindparam("prompt"), concept_refs=sa.bindparam("refs"))
    )
    last = ""
    while rows := connection.execute(some.where(_JOBS.c.id > last)).all():
        values = [
            {
                "job": row.id,
                "prompt": row.payload.get("prompt", "").casefold(),
                "refs": [
                    ref
                    for concept in row.payload.get("concepts", ())
                    for ref in (concept["id"], concept["name"])
                ],
            }
            for row in rows
        ]
        connection.execute(copied, values)
        last = rows[-1].id
