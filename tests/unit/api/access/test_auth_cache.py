"""A key is looked up once a second, and the result is kept no longer."""

from dataclasses import replace
from typing import Any

import pytest

from api.access.auth_cache import AuthCache
from service import auth
from service.auth import Caller
from service.database.engine import Database
from service.errors import Unauthorized
from service.wiring import Service


class Counted(Database):
    """A database that counts its reading sessions."""

    reads = 0

    def read(self) -> Any:
        self.reads += 1
        return super().read()


class Time:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def made(service: Service) -> tuple[AuthCache, Counted, Time]:
    database, clock = Counted(service.database.engine), Time()
    return AuthCache(replace(service, database=database), clock=clock), database, clock


def ask(auth_cache: AuthCache, key: str) -> Caller:
    return auth_cache.authenticate(f"Bearer {key}", key_required=True)


def test_the_same_key_is_looked_up_once_a_second(service: Service) -> None:
    auth_cache, database, clock = made(service)
    key, view = auth.create_key(service, label="a")
    assert {ask(auth_cache, key).owner_id for _ in range(20)} == {view.owner_id}
    assert database.reads == 1
    clock.now += 1
    ask(auth_cache, key)
    assert database.reads == 2


def test_a_revoked_key_works_for_a_second_at_most_however_often_it_is_used(
    service: Service,
) -> None:
    auth_cache, _, clock = made(service)
    key, view = auth.create_key(service, label="a")
    ask(auth_cache, key)
    auth.revoke_key(service, view.id)
    for _ in range(9):
        clock.now += 0.1
        ask(auth_cache, key)
    clock.now += 0.1 + 1e-9
    with pytest.raises(Unauthorized):
        ask(auth_cache, key)


def test_a_key_never_stands_for_another(service: Service) -> None:
    auth_cache, _, _ = made(service)
    owners = {}
    for label in "ab":
        key, view = auth.create_key(service, label=label)
        owners[key] = view.owner_id
    for _ in range(2):
        assert {key: ask(auth_cache, key).owner_id for key in owners} == owners
        with pytest.raises(Unauthorized):
            ask(auth_cache, next(iter(owners))[:-1])


def test_a_key_works_as_soon_as_it_is_made(service: Service) -> None:
    auth_cache, _, _ = made(service)
    key = "sk_" + "k" * 43
    with pytest.raises(Unauthorized):
        ask(auth_cache, key)
    auth._store(service, key, label="a", owner_id="owner_a", scopes=auth.DEFAULT_SCOPES)
    assert ask(auth_cache, key).owner_id == "owner_a"


def test_what_is_known_of_callers_does_not_grow_without_end(service: Service) -> None:
    auth_cache, _, _ = made(service)
    key, view = auth.create_key(service, label="a")
    for spaces in range(1200):
        assert ask(auth_cache, " " * spaces + key).owner_id == view.owner_id
    assert len(auth_cache._known) <= 1000
