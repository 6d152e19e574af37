"""The tables of webhooks: what is to be sent when a job ends, and the secrets that sign it."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.database.base import ID_LENGTH, Base


class WebhookRow(Base):
    """One message to send when its job has ended; written with the job, and deleted with it.

    No row says that a message is due: it is due once its job's status is final and `next_at` has
    passed. So whatever ends a job, also in the previous release, makes its message due.
    """

    __tablename__ = "webhooks"
    __table_args__ = (UniqueConstraint("job_id"), Index(None, "state", "next_at"))
    # Sent as `webhook-id`, the same at every attempt.
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    owner_id: Mapped[str] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16))  # a statuses.WebhookState
    # Counts the attempts, and serves as the token of the lease: only the newest may end it.
    attempts: Mapped[int]
    # No process takes the message before this time: a lease while it is sent, then the back-off.
    next_at: Mapped[datetime]
    # How the newest attempt ended, in a word or two, such as `status 500`.
    outcome: Mapped[str | None] = mapped_column(String(64))


class WebhookSecretRow(Base):
    """The secret that signs the messages to one owner. A signature needs it in plain text."""

    __tablename__ = "webhook_secrets"
    owner_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    secret: Mapped[str] = mapped_column(String(100))
    # The secret before a rotation, which signs as well until then.
    previous: Mapped[str | None] = mapped_column(String(100))
    previous_until: Mapped[datetime | None]
