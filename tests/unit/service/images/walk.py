"""Look for traces of deleted images in the whole database and the whole blob store."""

from sqlalchemy import select

from service.database.tables import Base, BlobRow
from service.wiring import Service
from tests.unit.service.staging import blob_keys


def traces(service: Service, *needles: str) -> list[str]:
    """Return every key of a blob, and every row of every table, that contains a needle."""
    found = [key for key in sorted(blob_keys(service)) if any(each in key for each in needles)]
    with service.database.read() as session:
        for table in Base.metadata.sorted_tables:
            columns = table.c if table is not BlobRow.__table__ else [table.c.key]
            for row in session.execute(select(*columns)):
                told = f"{table.name}: {tuple(row)}"
                found += [told] if any(each in told for each in needles) else []
    return found
