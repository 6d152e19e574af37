"""The webhook of a request, and its check when the request is accepted."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from service.errors import invalid
from service.options import Inbound
from service.webhooks import addresses
from service.webhooks.addresses import MAX_URL_LENGTH
from service.wiring import Service

_LOOK_UP_SECONDS = 2.0


class Webhook(Inbound):
    """Where to send the job once it has ended."""

    url: Annotated[
        str,
        StringConstraints(min_length=1, max_length=MAX_URL_LENGTH),
        Field(
            description="http or https, without user and password, at a public address.",
            examples=["https://hooks.example.org/perfusion"],
        ),
    ]
    events: Annotated[
        tuple[Literal["completed"], ...],
        Field(
            min_length=1,
            max_length=1,
            strict=False,
            description="`completed`: the job has succeeded, failed or been cancelled.",
        ),
    ] = ("completed",)


def check(service: Service, webhook: Webhook | None) -> None:
    """Raise Invalid if a webhook may not go where it should go.

    A name without an address may get one until its job ends, so it is accepted: every attempt to
    send checks the addresses anew. This check only tells a caller of a mistake at once, so it is
    left out while many requests wait for slow name servers.
    """
    if webhook is None:
        return
    private = service.settings.webhooks_private
    try:
        destination = addresses.parse(webhook.url, private=private)
        if service.lookups.acquire(blocking=False):
            try:
                addresses.resolve(destination, private=private, seconds=_LOOK_UP_SECONDS)
            finally:
                service.lookups.release()
    except addresses.Refused as error:
        raise invalid("/webhook/url", str(error), slug="webhook-url") from None
    except addresses.Unresolved:
        pass
