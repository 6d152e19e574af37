"""A webhook comes with a request, and is refused at once if it may not go where it should."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service.database.tables import WebhookRow
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.service import staging

HOOK = {"url": "https://1.1.1.1/hook", "events": ["completed"]}


def generate(client: TestClient, webhook: Any) -> Any:
    return client.post("/generate", json={"prompt": "a boat", "webhook": webhook})


def create(client: TestClient, webhook: Any) -> Any:
    picture = staging.encoded(staging.picture())
    text = webhook if isinstance(webhook, str) else json.dumps(webhook)
    data = {"name": "rex", "superclass": "robot", "webhook": text}
    return client.post("/concepts", data=data, files=[("images", ("a.png", picture))])


def train(client: TestClient, webhook: Any) -> Any:
    return client.post("/concepts/teddy/train", json={"webhook": webhook})


ROUTES = [generate, create, train]


@pytest.mark.parametrize("ask", ROUTES)
def test_a_job_may_come_with_a_webhook(
    client: TestClient, service: Service, teddy: str, ask: Callable[..., Any]
) -> None:
    answer = ask(client, HOOK)
    assert answer.status_code == 202, answer.text
    with service.database.read() as session:
        (row,) = session.scalars(select(WebhookRow))
    assert (row.job_id, row.url) == (answer.json()["job"]["id"], HOOK["url"])


@pytest.mark.parametrize(
    ("ask", "url"),
    [
        (generate, "http://169.254.169.254/latest/meta-data"),
        (create, "http://[::ffff:169.254.169.254]/"),
        (train, "http://2130706433/"),
        (generate, "http://localhost/"),
        (generate, "ftp://example.org/"),
        (generate, "https://user:password@example.org/"),
    ],
)
def test_a_webhook_to_a_wrong_place_is_refused(
    client: TestClient, service: Service, teddy: str, ask: Callable[..., Any], url: str
) -> None:
    problem = refusal(ask(client, {"url": url}), 422, slug="webhook-url")
    assert pointers(problem) == {"/webhook/url"}
    assert url not in json.dumps(problem)
    with service.database.read() as session:
        assert session.scalars(select(WebhookRow)).all() == []


def test_a_name_that_leads_to_a_forbidden_address_is_refused_at_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        host = "169.254.169.254" if host == "hooks.example.org" else host
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    problem = refusal(
        generate(client, {"url": "http://hooks.example.org/"}), 422, slug="webhook-url"
    )
    assert pointers(problem) == {"/webhook/url"}


def test_a_name_that_cannot_be_resolved_yet_is_accepted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    assert generate(client, {"url": "https://hooks.example.org/"}).status_code == 202


def test_an_operator_may_allow_local_networks(
    make_service: Callable[..., Service], make_client: Callable[..., TestClient]
) -> None:
    client = make_client(make_service(webhooks_private=True))
    assert generate(client, {"url": "http://10.0.0.1/hook"}).status_code == 202
    refusal(generate(client, {"url": "http://169.254.169.254/"}), 422, slug="webhook-url")


@pytest.mark.parametrize("ask", [generate, create])
@pytest.mark.parametrize(
    ("webhook", "pointer"),
    [
        ({}, "/webhook/url"),
        ({**HOOK, "events": []}, "/webhook/events"),
        ({**HOOK, "events": ["started"]}, "/webhook/events/0"),
        ({**HOOK, "secret": "x"}, "/webhook/secret"),
        ({"url": "https://example.org/" + "a" * 2048}, "/webhook/url"),
        ([], "/webhook"),
    ],
)
def test_a_webhook_of_another_form_is_refused(
    client: TestClient, teddy: str, ask: Callable[..., Any], webhook: Any, pointer: str
) -> None:
    assert pointer in pointers(refusal(ask(client, webhook), 422))


def test_a_form_field_that_is_no_json_is_refused(client: TestClient) -> None:
    assert pointers(refusal(create(client, "{"), 422)) == {"/webhook"}


def test_metrics_count_webhooks(client: TestClient, service: Service) -> None:
    job = generate(client, HOOK).json()["job"]
    client.post(f"/jobs/{job['id']}/cancel")
    assert 'perfusion_webhooks{state="waiting"} 1.0' in client.get("/metrics").text
