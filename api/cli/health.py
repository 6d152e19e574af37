"""`perfusion health`: report whether this machine's worker is alive, for containers."""

import socket
from typing import Annotated

import typer

from api.cli.errors import CommandError
from service import wiring, workers
from service.settings import environment


def health(
    queues: Annotated[
        str, typer.Option(help="The worker's own queues: generate, train or both, with a comma.")
    ] = "generate,train",
) -> None:
    """Exit with 0 if a worker of this machine, on exactly these queues, has a recent heartbeat.

    A worker that loads its models is not alive yet: the message says how far it is, or why it
    cannot work. A worker sends no heartbeat while it hangs, or cannot reach the database.
    """
    wanted = {name.strip() for name in queues.split(",")}
    service = wiring.build(environment.load())
    try:
        live, loading = workers.live(service), workers.loading(service)
    finally:
        service.close()
    # In a container, the host name is the container's own name.
    here = socket.gethostname()
    own = [
        worker.id
        for worker in live
        if workers.machine_of(worker.id) == here and {*worker.queues} == wanted
    ]
    if not own:
        told = [worker.detail for worker in loading if workers.machine_of(worker.id) == here]
        raise CommandError(" ".join([f"No worker of {here} on {queues} is alive.", *told]))
    typer.echo(", ".join(own))
