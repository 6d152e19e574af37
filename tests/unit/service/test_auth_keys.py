"""API keys are stored as hashes, shown once and revocable, and identify the caller."""

from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from service import auth
from service.auth import Scope
from service.database.tables import ApiKeyRow
from service.errors import Invalid, NotFound, Unauthorized
from service.settings.environment import Settings
from service.wiring import Service
from tests.unit.service.staging import at_once


def bearer(key: str) -> str:
    return f"Bearer {key}"


def test_a_key_opens_its_owners_objects_until_it_is_revoked(service: Service) -> None:
    key, view = auth.create_key(service, label="laptop")
    assert key.startswith("sk_")
    assert len(key) == 46
    assert auth.authenticate(service, bearer(key), key_required=True).owner_id == view.owner_id
    assert (
        auth.authenticate(service, f"bearer  {key} ", key_required=False).owner_id == view.owner_id
    )
    auth.revoke_key(service, view.id)
    with pytest.raises(Unauthorized):
        auth.authenticate(service, bearer(key), key_required=True)
    [listed] = auth.list_keys(service)
    assert listed.revoked_at is not None


def test_two_keys_may_belong_to_one_owner(service: Service) -> None:
    first, view = auth.create_key(service, label="laptop")
    second, _ = auth.create_key(service, label="phone", owner_id=view.owner_id)
    callers = [
        auth.authenticate(service, bearer(key), key_required=True) for key in (first, second)
    ]
    owners = {caller.owner_id for caller in callers}
    assert owners == {view.owner_id}
    auth.revoke_key(service, first[:11])
    assert auth.authenticate(service, bearer(second), key_required=True).owner_id == view.owner_id


def test_the_database_never_sees_a_key(service: Service) -> None:
    key, view = auth.create_key(service, label="laptop")
    with service.database.read() as session:
        row = session.scalars(select(ApiKeyRow)).one()
        stored = " ".join(str(getattr(row, column.name)) for column in ApiKeyRow.__table__.columns)
    assert key not in stored
    assert key not in repr(view)
    assert view.prefix == key[:11]


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic abc", "Bearer sk_wrong", "Bearer \ud800", "Bearer a\0b",
     "Bearer ä", "sk_abc", "Bearer " + "x" * 10_000],
)  # fmt: skip
@pytest.mark.parametrize("key_required", [True, False])
def test_a_wrong_header_never_falls_back_to_the_local_owner(
    service: Service, header: str, key_required: bool
) -> None:
    auth.create_key(service, label="laptop")
    with pytest.raises(Unauthorized):
        auth.authenticate(service, header, key_required=key_required)


def test_a_key_with_the_same_beginning_opens_nothing(service: Service) -> None:
    key, _ = auth.create_key(service, label="laptop")
    with pytest.raises(Unauthorized):
        auth.authenticate(service, bearer(key[:-1] + "_"), key_required=True)


def test_without_a_header_the_caller_is_local_where_no_key_is_required(service: Service) -> None:
    local = auth.authenticate(service, None, key_required=False)
    assert local == auth.Caller(auth.LOCAL_OWNER, auth.ALL_SCOPES)
    with pytest.raises(Unauthorized):
        auth.authenticate(service, None, key_required=True)


@pytest.mark.parametrize(
    ("mode", "host", "needed"),
    [
        ("auto", "127.0.0.1", False),
        ("auto", "127.8.8.8", False),
        ("auto", "::1", False),
        ("auto", "[::1]", False),
        ("auto", "localhost", False),
        ("auto", "0.0.0.0", True),
        ("auto", "::", True),
        ("auto", "192.168.0.7", True),
        ("auto", "example.org", True),
        ("auto", "", True),
        ("off", "0.0.0.0", False),
        ("required", "127.0.0.1", True),
    ],
)
def test_a_key_is_required_outside_loopback(mode: str, host: str, needed: bool) -> None:
    assert auth.required(Settings.model_validate({"auth": mode}), host=host) is needed


def test_the_bootstrap_key_opens_the_local_owners_objects(
    make_service: Callable[..., Service],
) -> None:
    key = "sk_" + "b" * 40
    service = make_service(bootstrap_key=key)
    for _ in range(2):
        auth.ensure_bootstrap_key(service)
    bootstrap = auth.authenticate(service, bearer(key), key_required=True)
    assert bootstrap == auth.Caller(auth.LOCAL_OWNER, auth.ALL_SCOPES)
    assert len(auth.list_keys(service)) == 1


def test_a_key_has_the_scopes_that_it_was_made_with(service: Service) -> None:
    usual, view = auth.create_key(service, label="usual")
    assert view.scopes == ("read", "generate", "train")
    assert (
        auth.authenticate(service, bearer(usual), key_required=True).scopes == auth.DEFAULT_SCOPES
    )
    narrow, _ = auth.create_key(service, label="narrow", scopes=[Scope.METRICS])
    assert auth.authenticate(service, bearer(narrow), key_required=True).scopes == {Scope.METRICS}


def test_a_key_of_the_first_release_may_do_what_it_always_might(service: Service) -> None:
    key, view = auth.create_key(service, label="old")
    with service.database.write() as session:
        session.execute(update(ApiKeyRow).where(ApiKeyRow.id == view.id).values(scopes=None))
    assert auth.authenticate(service, bearer(key), key_required=True).scopes == auth.ALL_SCOPES


def test_processes_that_start_at_once_store_one_bootstrap_key(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(bootstrap_key="sk_" + "b" * 43)
    at_once([lambda: auth.ensure_bootstrap_key(service)] * 8)
    assert len(auth.list_keys(service)) == 1


def test_without_a_bootstrap_key_none_is_made(service: Service) -> None:
    auth.ensure_bootstrap_key(service)
    assert auth.list_keys(service) == []


def test_a_label_says_something_and_an_unknown_key_cannot_be_revoked(service: Service) -> None:
    for label in ("", "  ", "x" * 101, "a\0"):
        with pytest.raises(Invalid):
            auth.create_key(service, label=label)
    with pytest.raises(NotFound):
        auth.revoke_key(service, "key_unknown")
