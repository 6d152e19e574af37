"""The tables of worker processes, which die and come back: nothing else refers to their rows."""

from datetime import datetime

from sqlalchemy import Float, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.database.base import Base


class WorkerRow(Base):
    """A worker process; `seen_at` is its heartbeat."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    queues: Mapped[list[str]]
    device: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)


class LoadingWorkerRow(Base):
    """A worker process that does no jobs yet, because it loads its models or could not load them.

    A table of its own: the previous release counts every row of `workers` as ready.
    """

    __tablename__ = "loading_workers"
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    phase: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(Text)
    progress: Mapped[float | None] = mapped_column(Float)
    seen_at: Mapped[datetime]
