"""The proxy of the chaos tests loses the answers of commits, and no other answers."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from service.database import engine
from service.database.engine import Database
from service.errors import Unavailable
from tests.integration.stack.lost_answers import LostAnswers, lost_answers
from tests.integration.stack.servers import Postgres

pytestmark = pytest.mark.servers


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[LostAnswers]:
    with lost_answers(server_port=postgres.port, seed="a test") as proxy:
        yield proxy


@pytest.fixture
def database(proxy: LostAnswers, postgres: Postgres) -> Iterator[Database]:
    """Yield a database with one number, connected through the proxy."""
    url = postgres.new_database()
    with postgres.connect(url) as connection:
        connection.execute("CREATE TABLE numbers (n integer)")
        connection.execute("INSERT INTO numbers VALUES (0)")
    database = engine.connect(proxy.url(url))
    database.check()  # the first connection of a process reads types in a transaction
    yield database
    database.close()


def test_a_commit_whose_answer_is_lost_has_happened_and_its_client_is_told_of_a_fault(
    database: Database, proxy: LostAnswers
) -> None:
    proxy.share = 1
    with pytest.raises(Unavailable):
        add_one(database)
    assert number(database) == 1


def test_a_statement_that_commits_by_itself_loses_its_answer_too(
    database: Database, proxy: LostAnswers
) -> None:
    proxy.share = 1
    with pytest.raises(Unavailable), database.read() as session:
        session.execute(text("UPDATE numbers SET n = n + 1"))
    assert number(database) == 1


def test_what_commits_nothing_keeps_its_answers(database: Database, proxy: LostAnswers) -> None:
    proxy.share = 1
    for _ in range(8):  # the driver prepares a statement after five executions
        assert number(database) == 0
    with pytest.raises(ZeroDivisionError), database.write() as session:
        session.execute(text("UPDATE numbers SET n = n + 1"))
        raise ZeroDivisionError
    assert number(database) == 0
    assert proxy.lost == 0


def test_the_share_of_answers_that_are_lost_is_the_one_that_was_set(
    database: Database, proxy: LostAnswers
) -> None:
    proxy.share = 0.5
    told = 0
    for _ in range(100):
        try:
            add_one(database)
        except Unavailable:
            told += 1
    assert told == proxy.lost
    assert 30 <= proxy.lost <= 70
    assert proxy.commits == 101  # includes the commit of the first connection
    assert number(database) == 100


def add_one(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE numbers SET n = n + 1"))


def number(database: Database) -> int:
    with database.read() as session:
        value = session.scalar(text("SELECT n FROM numbers"))
    assert isinstance(value, int)
    return value
