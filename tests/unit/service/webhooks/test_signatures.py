"""Messages are signed as Standard Webhooks says, by a secret of their owner."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from service.webhooks import signatures
from service.wiring import Service
from tests.unit.service.staging import OWNER, STRANGER, Clock, at_once

BODY = json.dumps({"type": "job.succeeded"})


def verify(service: Service, secret: str, *, owner_id: str = OWNER) -> bool:
    headers = signatures.headers(
        service, owner_id, message_id="msg_1", body=BODY, at=datetime.now(UTC)
    )
    try:
        return bool(Verifier(secret).verify(BODY, headers))
    except WebhookVerificationError:
        return False


def test_a_receiver_verifies_a_message_with_the_secret_of_its_owner(service: Service) -> None:
    assert verify(service, signatures.secret(service, OWNER))
    assert not verify(service, signatures.secret(service, STRANGER))


def test_the_first_message_makes_the_secret_and_the_secret_stays(service: Service) -> None:
    assert not verify(service, signatures.secret(service, STRANGER))
    secret = signatures.secret(service, OWNER)
    assert secret.startswith("whsec_")
    assert signatures.secret(service, OWNER) == secret
    assert verify(service, secret)


def test_first_messages_at_once_make_one_secret(service: Service) -> None:
    secrets: set[str] = set()
    at_once([lambda: secrets.add(signatures.secret(service, OWNER)) for _ in range(4)])
    assert len(secrets) == 1


def test_for_a_day_after_a_rotation_both_secrets_sign(service: Service, clock: Clock) -> None:
    old = signatures.secret(service, OWNER)
    new = signatures.secret(service, OWNER, rotate=True)
    assert new != old
    assert (verify(service, old), verify(service, new)) == (True, True)
    clock.tick(timedelta(hours=25).total_seconds())
    assert (verify(service, old), verify(service, new)) == (False, True)


@pytest.mark.parametrize("change", ["webhook-id", "webhook-timestamp"])
def test_id_and_time_are_signed_too(service: Service, change: str) -> None:
    secret = signatures.secret(service, OWNER)
    at = datetime.now(UTC)
    headers = signatures.headers(service, OWNER, message_id="msg_1", body=BODY, at=at)
    Verifier(secret).verify(BODY, headers)
    headers[change] = str(int(at.timestamp()) + 1)
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(BODY, headers)
