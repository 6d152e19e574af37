"""The secrets of owners, and the signatures of messages, as Standard Webhooks describes them.

A secret is made when it is first needed. It must be kept in plain text, because every message needs
a signature. A reader of the database can read it, as well as prompts and images. The secret proves
where a message comes from, and gives access to nothing.
"""

import base64
import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update
from standardwebhooks import Webhook as Signer

from service.database.tables import WebhookSecretRow
from service.wiring import Service

_BYTES = 32
BOTH_SIGN_FOR = timedelta(days=1)
"""How long the secret before a rotation signs as well, so that receivers may change over."""


def secret(service: Service, owner_id: str, *, rotate: bool = False) -> str:
    """Return an owner's secret, `whsec_...`; with `rotate`, replace it by a new one first."""

    def act(connection: Connection, now: datetime) -> str:
        of_owner = WebhookSecretRow.owner_id == owner_id
        current = connection.scalar(
            select(WebhookSecretRow.secret).where(of_owner).with_for_update()
        )
        if current is not None and not rotate:
            return current
        new = f"whsec_{base64.b64encode(secrets.token_bytes(_BYTES)).decode()}"
        if current is None:
            connection.execute(insert(WebhookSecretRow).values(owner_id=owner_id, secret=new))
        else:
            connection.execute(
                update(WebhookSecretRow)
                .where(of_owner)
                .values(secret=new, previous=current, previous_until=now + BOTH_SIGN_FOR)
            )
        return new

    return service.database.run(act)


def headers(
    service: Service, owner_id: str, *, message_id: str, body: str, at: datetime
) -> dict[str, str]:
    """Return the headers that identify and sign a message; `at` is the time of this attempt."""
    signatures = [
        Signer(each).sign(message_id, at, body) for each in _valid_secrets(service, owner_id)
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _valid_secrets(service: Service, owner_id: str) -> list[str]:
    with service.database.read() as session:
        row = session.get(WebhookSecretRow, owner_id)
        now = service.database.now(session)
    if row is None:
        return [secret(service, owner_id)]
    if row.previous is None or row.previous_until is None or row.previous_until <= now:
        return [row.secret]
    return [row.secret, row.previous]
