"""The documentation page at /docs: its policy, its library, and its list of groups."""

import gzip
import re
from hashlib import sha256
from pathlib import Path

from starlette.testclient import TestClient

import api
from api import openapi
from api.middleware import DOCS_CSP, PAGE_CSP

_FOLDER = Path(api.__file__).parent / "web" / "docs"


def test_the_documentation_page_runs_only_scripts_of_its_own_server(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-security-policy"] == DOCS_CSP
    rules = dict(rule.split(" ", 1) for rule in DOCS_CSP.split("; "))
    assert rules.pop("img-src") == "'self' blob: data:"
    own = {"script-src", "style-src", "connect-src"}
    none = {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert rules == dict.fromkeys(own, "'self'") | dict.fromkeys(none, "'none'")
    for script in re.findall("<script[^>]*>", page.text):
        assert 'src="web/docs/' in script
    assert not re.search(r"<style|style=|\son\w+=|//", page.text)


def test_no_other_page_has_the_policy_of_the_documentation(client: TestClient) -> None:
    assert client.get("/").headers["content-security-policy"] == PAGE_CSP != DOCS_CSP
    for path in ("/jobs", "/openapi.json", "/web/docs/docs.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


def test_every_file_that_the_page_names_is_there(client: TestClient) -> None:
    named = re.findall(r'(?:src|href)="(web/[^"]+)"', client.get("/docs").text)
    assert len(named) == 5
    for name in named:
        assert client.get(f"/{name}").status_code == 200, name


def test_the_groups_of_the_navigation_are_those_of_openapi(client: TestClient) -> None:
    links = re.findall(r'href="#operations-tag-(\w+)">(\w+)<', client.get("/docs").text)
    assert links == [(tag["name"], tag["name"]) for tag in openapi.TAGS]


def test_the_library_is_sent_compressed_and_is_the_one_that_its_list_names(
    client: TestClient,
) -> None:
    listed = dict(
        re.findall(
            r"^\| `(\S+)` .*`([0-9a-f]{64})` \|$",
            (_FOLDER / "vendor" / "README.md").read_text("utf-8"),
            re.MULTILINE,
        )
    )
    found = {file.name for file in (_FOLDER / "vendor").glob("*.gz")}
    assert found == set(listed)
    for name, digest in listed.items():
        answer = client.get(f"/web/docs/vendor/{name}")
        assert answer.headers["content-encoding"] == "gzip"
        kind = "text/javascript" if ".js" in name else "text/css"
        assert answer.headers["content-type"].startswith(kind)
        stored = (_FOLDER / "vendor" / name).read_bytes()
        assert int(answer.headers["content-length"]) == len(stored)
        assert answer.content == gzip.decompress(stored)
        assert sha256(answer.content).hexdigest() == digest
