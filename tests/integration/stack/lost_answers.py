"""A proxy in front of PostgreSQL that loses answers of commits.

It forwards everything until the server confirms a commit. For a share of the commits it then closes
the client's connection without the answer: the rows are there, but the client cannot know it.

The proxy recognises a commit by the server's answer. So the client may ask for it in any way: by a
COMMIT in a simple query or in the extended protocol, or by one statement that writes outside a
transaction.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread

_ENCRYPTION_REQUESTS = (80877103, 80877104)  # SSL, GSSAPI
_WRITES = (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")
_GONE = (asyncio.IncompleteReadError, OSError)


class LostAnswers:
    """A listener on `port`. A `share` of the commits loses its answer, and `lost` counts them."""

    def __init__(self, *, server_port: int, seed: str) -> None:
        self.port = 0
        self.share = 0.0
        self.commits = 0
        self.lost = 0
        self._server_port = server_port
        self._choose = random.Random(seed)

    def url(self, database_url: str) -> str:
        """Return the URL of the same database through this proxy."""
        return database_url.replace(f":{self._server_port}/", f":{self.port}/")

    async def listen(self) -> None:
        """Start to accept clients."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _accept(
        self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        with closing(client), suppress(*_GONE):
            opening = await _read_opening(from_client, client)
            from_server, server = await asyncio.open_connection("127.0.0.1", self._server_port)
            with closing(server):
                server.write(opening)
                requests = asyncio.create_task(_copy(from_client, server))
                try:
                    await self._pass_answers(from_server, client)
                finally:
                    requests.cancel()

    async def _pass_answers(
        self, from_server: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        """Forward whole answers, each up to "ready for the next query"; return to lose one."""
        answer = bytearray()
        state: bytes | None = None  # I: idle, T: in a transaction, E: in one that failed
        commits = False
        while True:
            head = await from_server.readexactly(5)
            body = await from_server.readexactly(int.from_bytes(head[1:]) - 4)
            answer += head + body
            if head[:1] == b"C":
                alone = state == b"I" and body.startswith(_WRITES)
                commits |= alone or body == b"COMMIT\0"
            if head[:1] == b"Z":
                if commits and self._loses():
                    return
                state, commits = body, False
            # Before the first "ready" the server asks the client with each message.
            if head[:1] == b"Z" or state is None:
                client.write(answer)
                answer.clear()
                await client.drain()

    def _loses(self) -> bool:
        self.commits += 1
        loses = self._choose.random() < self.share
        self.lost += loses
        return loses


async def _read_opening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return the client's first message after refusing its requests for encryption."""
    while True:
        head = await reader.readexactly(8)
        length, code = int.from_bytes(head[:4]), int.from_bytes(head[4:])
        opening = head + await reader.readexactly(length - 8)
        if code not in _ENCRYPTION_REQUESTS:
            return opening
        writer.write(b"N")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*_GONE):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    # This also ends the other direction, which reads the server's messages.
    writer.close()


@contextmanager
def lost_answers(*, server_port: int, seed: str) -> Iterator[LostAnswers]:
    """Run a proxy in a thread. It loses no answer until a test sets its `share`."""
    proxy = LostAnswers(server_port=server_port, seed=seed)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(proxy.listen())
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
