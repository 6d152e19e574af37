"""The log of a deployment at level debug contains no secrets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service import auth
from tests.integration.conftest import deploy as deploy
from tests.integration.conftest import postgres as postgres
from tests.integration.conftest import redis as redis
from tests.integration.conftest import s3 as s3
from tests.integration.conftest import servers as servers
from tests.integration.stack.deployment import Deployment, wait_until
from tests.integration.stack.servers import Servers
from tests.security.conftest import bearer, give
from tests.unit.service import staging

pytestmark = pytest.mark.servers
PROMPT = "a photo of <rex> that stays secret"


def test_no_key_password_link_or_prompt_is_logged(
    deploy: Callable[..., Deployment], servers: Servers, tmp_path: Path
) -> None:
    bootstrap, link_secret = "sk_" + "b" * 43, "l" * 64
    deployment = deploy(auth="required", bootstrap_key=bootstrap, link_secret=link_secret)
    service = deployment.service()
    key, view = auth.create_key(service, label="hers")
    owned = give(service, view.owner_id)
    api = deployment.api()
    api.start()
    http = api.http

    assert http.get("/jobs", headers=bearer(bootstrap)).status_code == 200
    job = http.get(f"/jobs/{owned.job_id}", headers=bearer(key)).json()
    link = job["images"][0]["signed_url"]
    assert http.get(link).status_code == 200
    assert http.get(link[:-1]).status_code == 401
    assert http.post("/generate", json={"prompt": PROMPT}, headers=bearer(key)).status_code == 202
    # Keys in places where they do not belong, and nearly right keys.
    wrong = key[:-2] + "xx"
    for path in ("/jobs", f"/jobs?cursor={key}", f"/jobs/{key}", f"/concepts/{key}?x={key}"):
        for sent in (key, wrong):
            http.get(path, headers=bearer(sent))
    http.post("/generate", json={"prompt": "x", key: key}, headers=bearer(key))
    http.post("/generate", content=b"{" + key.encode(), headers=bearer(key))
    http.post("/concepts", headers=bearer(key), files={key: (key, b"x")}, data={"name": key})
    picture = staging.encoded(staging.picture())
    http.post(
        "/concepts",
        headers=bearer(key),
        files={"images": ("a.png", picture)},
        data={"name": "other", "superclass": "bear"},
    )
    # The servers' errors may name addresses, but no passwords.
    servers.redis.process.kill()
    http.post("/generate", json={"prompt": PROMPT}, headers=bearer(key))
    servers.redis.start()
    servers.postgres.stop()
    assert http.get("/jobs", headers=bearer(key)).status_code == 503
    assert http.get("/readyz").status_code == 503
    servers.postgres.start()
    wait_until(lambda: http.get("/jobs", headers=bearer(key)).status_code == 200)
    service.close()
    assert api.process.terminate() == 0

    log = api.process.log
    password = deployment.environment["PERFUSION_DATABASE_URL"].split(":")[2].split("@")[0]
    signature = link.split("sig=")[1]
    secrets = [key, wrong, bootstrap, link_secret, signature, password, PROMPT]
    secrets += [servers.s3.access_key, servers.s3.secret_key]
    assert [secret for secret in secrets if secret in log] == []
    assert "request_id" in log
