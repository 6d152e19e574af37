"""docker/pin-images.sh works with a local registry, and Compose reads the file that it writes."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import stack
from tests.deployment.registry import Registry, digest_of, serving

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the script needs curl")

PUBLISHED = {
    "library/postgres:15-bookworm",
    "library/redis:7.2-bookworm",
    "chrislusf/seaweedfs:4.48",
    "prom/prometheus:v3.5.0",
    "grafana/grafana:12.1.0",
    "library/python:3.11-slim-bookworm",
}


def pin(out: Path, *, hub: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", stack.ROOT / "docker" / "pin-images.sh", out],
        env={"PATH": os.environ["PATH"], "DOCKER_HUB": hub, "HOME": str(out.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving(Registry(set(PUBLISHED))) as registry:
        yield registry


@pytest.mark.parametrize("with_tokens", [True, False], ids=["tokens", "open"])
def test_every_image_of_others_is_pinned_to_the_digest_for_all_platforms(
    registry: Registry, tmp_path: Path, with_tokens: bool
) -> None:
    registry.with_tokens = with_tokens
    out = tmp_path / "images.lock.yml"
    done = pin(out, hub=registry.url)
    assert done.returncode == 0, done.stderr
    assert f"COMPOSE_FILE=docker-compose.yml:{out}" in done.stdout
    services = stack.resolve(stack.make_env(tmp_path), files=[stack.FILE, out])
    used = {}
    for name, service in services.items():
        build = service.get("build")
        used[name] = build["args"]["PYTHON_IMAGE"] if build else service["image"]
    pinned = {}
    for name, image in used.items():
        tagged, _, digest = image.partition("@")
        full = tagged if "/" in tagged else f"library/{tagged}"
        assert digest == digest_of(full), name
        pinned[name] = full
    assert set(pinned) == set(stack.raw()["services"])
    assert set(pinned.values()) == PUBLISHED


def test_the_pins_change_nothing_else(registry: Registry, tmp_path: Path) -> None:
    out = tmp_path / "images.lock.yml"
    assert pin(out, hub=registry.url).returncode == 0
    env_file = stack.make_env(tmp_path)
    before, after = stack.resolve(env_file), stack.resolve(env_file, files=[stack.FILE, out])
    for service in after.values():
        service["image"] = re.sub("@.*", "", service["image"])
        service.get("build", {}).get("args", {}).pop("PYTHON_IMAGE", None)
        if service.get("build", {}).get("args") == {}:
            del service["build"]["args"]
    assert after == before


def refused(registry: Registry, out: Path) -> str:
    out.write_text("what was there")
    done = pin(out, hub=registry.url)
    assert done.returncode == 1
    assert "Nothing was written." in done.stderr
    assert [file.name for file in out.parent.iterdir()] == [out.name]
    assert out.read_text() == "what was there"
    return done.stderr


def test_an_image_that_does_not_exist_is_named_and_nothing_is_written(
    registry: Registry, tmp_path: Path
) -> None:
    registry.images.remove("grafana/grafana:12.1.0")
    said = refused(registry, tmp_path / "images.lock.yml")
    assert re.search(r"no digest of grafana/grafana:12\.1\.0 \(HTTP/1\.\d 404", said)


def test_a_missing_base_image_is_named_too(registry: Registry, tmp_path: Path) -> None:
    registry.images.remove("library/python:3.11-slim-bookworm")
    assert "python:3.11-slim-bookworm" in refused(registry, tmp_path / "images.lock.yml")


def test_a_registry_that_cannot_be_reached_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        silent = Registry(set(), url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        said = refused(silent, tmp_path / "images.lock.yml")
    assert "did not answer for postgres:15-bookworm" in said and "DOCKER_HUB" in said
