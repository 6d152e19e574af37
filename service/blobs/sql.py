"""Blobs in the database, as rows of the table `blobs`, so that one backup contains everything.

Every call runs in a transaction of its own instead of the caller's. Every call keeps a whole blob
in memory. On SQLite, a write holds the only write lock until the blob has been written to disk.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, select, true
from sqlalchemy.dialects import postgresql, sqlite

from service.blobs.store import BlobExists, BlobInfo, BlobNotFound, check_key, check_prefix
from service.database.engine import Database
from service.database.tables import BlobRow

_PAGE = 1000


class SqlBlobs:
    """Blobs as rows of `database`; a key is a primary key, and a folder is a range of keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_postgres = database.engine.dialect.name == "postgresql"

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, replacing any blob under this key."""
        self._insert(key, data, replace=True)

    def put_new(self, key: str, data: bytes) -> None:
        """Store `data` under `key`; keep other bytes already there and raise BlobExists."""
        if not self._insert(key, data, replace=False) and self.get(key) != data:
            raise BlobExists(key)

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`, or raise BlobNotFound."""
        with self._database.read() as session:
            connection = session.connection()
            if self._is_postgres:
                # Imported late, as in database/engine.py: SQLite needs no PostgreSQL driver.
                from service.database.postgres import ask_for_binary

                ask_for_binary(connection)
            data = connection.scalar(select(BlobRow.data).where(BlobRow.key == check_key(key)))
        if data is None:
            raise BlobNotFound(key)
        return data

    def delete(self, key: str) -> None:
        """Remove `key`; accept a key that does not exist."""
        self._delete(BlobRow.key == check_key(key))

    def delete_prefix(self, prefix: str) -> None:
        """Remove every key under the folder `prefix`, in one transaction."""
        if not prefix:
            raise ValueError("refusing to delete every blob")
        self._delete(_under(prefix))

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Go through the blobs under the folder `prefix`, in the order of their keys.

        No transaction is open while the caller handles a blob, so the caller may delete the blob or
        take a long time.
        """
        within, after = _under(prefix), ""
        while page := self._page(within, after=after):
            yield from page
            after = page[-1].key

    def clear_unfinished(self, *, older_than: datetime) -> int:
        """Return 0, because an unfinished transaction leaves nothing."""
        return 0

    def check(self) -> None:
        """Raise Unavailable unless the table answers."""
        with self._database.read() as session:
            session.scalar(select(BlobRow.key).limit(1))

    def _insert(self, key: str, data: bytes, *, replace: bool) -> bool:
        """Insert or replace a row; return False if the key is taken and `replace` is False."""
        insert = postgresql.insert if self._is_postgres else sqlite.insert
        with self._database.write() as session:
            row = {
                "key": check_key(key),
                "data": data,
                "size_bytes": len(data),
                "modified_at": self._database.now(session),
            }
            # One statement, because with two statements concurrent writers could interfere.
            new = insert(BlobRow).values(row)
            kept = new.on_conflict_do_nothing()
            replaced = new.on_conflict_do_update(index_elements=[BlobRow.key], set_=new.excluded)
            written = (replaced if replace else kept).returning(BlobRow.key)
            return session.connection().scalar(written) is not None

    def _delete(self, which: ColumnElement[bool]) -> None:
        with self._database.write() as session:
            session.connection().execute(delete(BlobRow).where(which))

    def _page(self, within: ColumnElement[bool], *, after: str) -> Sequence[BlobInfo]:
        wanted = (
            select(BlobRow.key, BlobRow.size_bytes, BlobRow.modified_at)
            .where(within, BlobRow.key > after)
            .order_by(BlobRow.key)
            .limit(_PAGE)
        )
        with self._database.read() as session:
            return [BlobInfo(*row) for row in session.execute(wanted)]


def _under(prefix: str) -> ColumnElement[bool]:
    """Return the condition that a key is in a folder: a range that the primary key's index serves.

    The condition does not use LIKE, because LIKE matches any character for the `_` in a key.
    """
    if not check_prefix(prefix):
        return true()
    # Keys are compared byte by byte, and "0" is the byte that follows "/".
    return and_(BlobRow.key >= prefix, BlobRow.key < f"{prefix[:-1]}0")
