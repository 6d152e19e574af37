"""The smallest application that could accept a job: FastAPI, one route, one INSERT.

`benchmarks.servers.load` starts it. It has no keys, limits, concepts or messages to workers. Server
and driver are those of the product, and a committed row is on the disk as well.
"""

import os
import sqlite3
import sys
import uuid

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import create_engine, event, text


class _Request(BaseModel):
    prompt: str


def main() -> None:
    """Serve on the port that the command line names."""
    engine = create_engine(os.environ["PERFUSION_DATABASE_URL"], pool_size=10, max_overflow=20)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _make_durable)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE floor (id text PRIMARY KEY, prompt text NOT NULL)"))
    insert = text("INSERT INTO floor VALUES (:id, :prompt)")
    app = FastAPI()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/generate", status_code=202)
    def generate(body: _Request) -> dict[str, str]:
        job_id = uuid.uuid4().hex
        with engine.begin() as connection:
            connection.execute(insert, {"id": job_id, "prompt": body.prompt})
        return {"id": job_id}

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")


def _make_durable(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


if __name__ == "__main__":
    main()
