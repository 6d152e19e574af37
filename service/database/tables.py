"""The tables. A job's row in `jobs` is the truth about the job; all other data can be repaired.

SQLite and PostgreSQL share the column types. Every constraint has a name, because migrations in
batch mode can change only constraints with names. This module has every table: those of workers
and webhooks come from their own.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, query_expression

from service.database.base import ID_LENGTH as ID_LENGTH
from service.database.base import Base as Base
from service.database.webhook_tables import WebhookRow as WebhookRow
from service.database.webhook_tables import WebhookSecretRow as WebhookSecretRow
from service.database.worker_tables import LoadingWorkerRow as LoadingWorkerRow
from service.database.worker_tables import WorkerRow as WorkerRow
from service.statuses import ConceptStatus, JobKind, JobStatus, Queue

_KINDS: dict[str | None, JobKind] = {kind.value: kind for kind in JobKind}


class ApiKeyRow(Base):
    """A key that gives access to one owner's objects; only the key's SHA-256 is stored."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    owner_id: Mapped[str] = mapped_column(String(64), index=True)
    label: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(16), index=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    # Words separated by spaces, as in OAuth; null means every scope.
    scopes: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class BaseModelRow(Base):
    """A base model that a worker has loaded; the model with the latest `seen_at` is served now."""

    __tablename__ = "base_models"
    fingerprint: Mapped[str] = mapped_column(String(128), primary_key=True)
    covariance_fingerprint: Mapped[str] = mapped_column(String(128), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    family: Mapped[str] = mapped_column(String(32))
    info: Mapped[dict[str, Any]]
    seen_at: Mapped[datetime]


class ConceptRow(Base):
    """A concept of one owner; a ready concept's file is the blob `blob_key`."""

    __tablename__ = "concepts"
    __table_args__ = (
        UniqueConstraint("owner_id", "name"),
        Index(None, "owner_id", "created_at", "id"),
        # Few concepts wait for their LoRA.
        Index(
            None,
            "export_requested_at",
            postgresql_where=text("export_requested_at IS NOT NULL"),
            sqlite_where=text("export_requested_at IS NOT NULL"),
        ),
    )
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    owner_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(63))
    superclass: Mapped[str] = mapped_column(String(100))
    description: Mapped[str | None] = mapped_column(Text)
    status: Mapped[ConceptStatus]
    base_model_name: Mapped[str | None] = mapped_column(String(200))
    base_model_fingerprint: Mapped[str | None] = mapped_column(String(128))
    covariance_fingerprint: Mapped[str | None] = mapped_column(String(128))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    blob_key: Mapped[str | None] = mapped_column(String(200))
    mask_source: Mapped[str | None] = mapped_column(String(16))
    training: Mapped[dict[str, Any]]
    # Not a column: the part of `training` that a list loads, see concepts/rows.py.
    listed_training: Mapped[dict[str, Any] | None] = query_expression()
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]
    # No foreign key, because jobs.concept_id already refers to this table.
    job_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    # The facts about the file's curve that concepts/files.py selects.
    judgement: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # Counts the files, from 1; see concepts/versions.py.
    revision: Mapped[int] = mapped_column(Integer, server_default="1", default=1)
    # The previous file, the training that made it, and what this row recorded about it.
    previous_blob_key: Mapped[str | None] = mapped_column(String(200))
    previous_job_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    previous: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # When the LoRA of the file was asked for; None once a worker has made it, see exports.py.
    export_requested_at: Mapped[datetime | None]


class PictureRow(Base):
    """One normalised training picture of a concept, and the picture's mask, if any."""

    __tablename__ = "pictures"
    concept_id: Mapped[str] = mapped_column(
        ForeignKey("concepts.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    blob_key: Mapped[str] = mapped_column(String(200))
    mask_key: Mapped[str | None] = mapped_column(String(200))
    width: Mapped[int]
    height: Mapped[int]
    has_alpha: Mapped[bool]
    sha256: Mapped[str] = mapped_column(String(64))
    # The size of the picture and its mask; 0 in rows of the first release.
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # x, y, width, height in pixels of the stored picture; None: the training chooses.
    crop: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))


class JobRow(Base):
    """The truth about a job. Each write checks status or lease token and increments `version`."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "owner_id", "created_at", "id"),
        Index(None, "status", "dispatch_at"),
        Index(None, "status", "lease_until"),
        Index(None, "queue", "status", "turn", "created_at", "id"),
        Index(None, "owner_id", "status", "queue", "turn"),
        # Few jobs have a kind of their own, and those of an hour ago are deleted.
        Index(
            None,
            "own_kind",
            "finished_at",
            postgresql_where=text("own_kind IS NOT NULL"),
            sqlite_where=text("own_kind IS NOT NULL"),
        ),
    )
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    owner_id: Mapped[str] = mapped_column(String(64))
    # The column has the name that the first release gave it, when each queue had one kind of jobs.
    queue: Mapped[Queue] = mapped_column("kind", key="queue")
    # The kind, if it is not named like the queue; see `kind`.
    own_kind: Mapped[str | None] = mapped_column(String(16))
    status: Mapped[JobStatus]
    payload: Mapped[dict[str, Any]]
    # What a running job does, a statuses.Phase; None: its worker has not said so.
    phase: Mapped[str | None] = mapped_column(String(16))
    # Until the job's end, as its worker estimates; it counts only together with a phase.
    eta_seconds: Mapped[float | None] = mapped_column(Float)
    step: Mapped[int]
    total_steps: Mapped[int]
    seconds_per_step: Mapped[float | None] = mapped_column(Float)
    # Every claim increments `attempt`, so that no two claims share a folder of results.
    # `attempts_spent` counts only the claims that count against `max_attempts`.
    attempt: Mapped[int]
    attempts_spent: Mapped[int]
    max_attempts: Mapped[int]
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None]
    worker_id: Mapped[str | None] = mapped_column(String(200))
    # When the current, unbroken series of infrastructure faults began.
    faulted_at: Mapped[datetime | None]
    # The attempt that saved a training's newest state, and the highest step of any state so far.
    state_attempt: Mapped[int | None]
    state_step: Mapped[int | None]
    # The attempt that drew the newest preview, of a training or a generation.
    preview_attempt: Mapped[int | None]
    # Orders the queued jobs, see jobs/job_order.py; a failed attempt does not change it.
    turn: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # No worker claims the job before this time; it is set after a fault of the infrastructure.
    not_before: Mapped[datetime | None]
    # The time of the next notification: it also serves as outbox and back-off. `rings` counts
    # notifications.
    dispatch_at: Mapped[datetime]
    rings: Mapped[int]
    cancel_requested_at: Mapped[datetime | None]
    # When its owner asked a training to end now and to keep its best state.
    finish_requested_at: Mapped[datetime | None]
    # The step that a training had reached at that time. An attempt that starts again trains up to
    # this step, so that a lost worker does not make the kept state worse.
    finish_step: Mapped[int | None]
    # When an event stream last asked for previews of a running generation.
    previews_wanted_at: Mapped[datetime | None]
    concept_id: Mapped[str | None] = mapped_column(ForeignKey("concepts.id", ondelete="SET NULL"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # Problems that did not stop the job; `error` is the problem that did. None: no warnings.
    warnings: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    # What an inspection found: each item is a lease_types.NewInspectedPicture.
    inspection: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    version: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @hybrid_property
    def kind(self) -> JobKind:
        """The kind. A kind that only a newer release knows counts as the kind of its queue.

        So this release can show and cancel the job. A worker leaves it alone, because the job has
        another kind's payload.
        """
        return _KINDS.get(self.own_kind, JobKind(self.queue))

    @kind.inplace.expression
    @classmethod
    def _kind(cls) -> ColumnElement[str]:
        return func.coalesce(cls.own_kind, cls.queue, type_=String())


class JobEventRow(Base):
    """The audit of one change of a job's status."""

    __tablename__ = "job_events"
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    from_status: Mapped[str | None] = mapped_column(String(16))
    to_status: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int]
    worker_id: Mapped[str | None] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(String(64))


class ImageRow(Base):
    """One generated image. A unique position per job prevents double writes."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("job_id", "position"),
        Index(None, "owner_id", "created_at", "id"),
    )
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    # A job must outlive its images, because its request says how they were made.
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"))
    owner_id: Mapped[str] = mapped_column(String(64))
    position: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    blob_key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    thumbnail_key: Mapped[str | None] = mapped_column(String(200))
    # Column and row in a sweep, from 0; None: not of a sweep.
    cell: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    # The size of the image, its thumbnail and its attention maps; 0 in rows of the first release.
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # Each item is a lease_types.NewAttentionMap, in the prompt's order; None: not requested.
    attention_maps: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    # Each item is a PresenceView; None: not measured.
    presence: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    # What searches compare, see images/search.py: the prompt, case folded, and the ids and names of
    # its concepts. None: a worker of the previous release stored the image.
    searched_prompt: Mapped[str | None] = mapped_column(Text)
    concept_refs: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime]


class DeploymentRow(Base):
    """One row: the id that this database shares with its blob store."""

    __tablename__ = "deployment"
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    created_at: Mapped[datetime]


class BlobRow(Base):
    """One blob, if `sql:` stores blobs in the database."""

    __tablename__ = "blobs"
    # Compared byte by byte, because a folder is a range of keys. SQLite does so by default; another
    # database's default order may ignore case or slashes.
    key: Mapped[str] = mapped_column(
        String(200).with_variant(String(200, collation="C"), "postgresql"), primary_key=True
    )
    data: Mapped[bytes] = mapped_column(LargeBinary)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    modified_at: Mapped[datetime]


class IdempotencyKeyRow(Base):
    """The first answer to a request, kept so that a repeated request gets the same answer."""

    __tablename__ = "idempotency_keys"
    owner_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    answer: Mapped[dict[str, Any]]
    location: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(index=True)
