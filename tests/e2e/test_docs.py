"""The documentation at /docs: every route, and each can be tried from the browser."""

import json
from pathlib import Path
from typing import Any

import httpx2 as httpx
from accessibility import violations
from actions import JOB_MS
from playwright.sync_api import Browser, Locator, Page, expect
from running import Photo, Visits, serving


def tried(page: Page, route: str) -> Locator:
    """Open a route, as "tag/operation id", ready to be filled in."""
    section = page.locator(f"#operations-{route.replace('/', '-')}")
    section.locator(".opblock-summary-control").click()
    section.get_by_role("button", name="Try it out").click()
    return section


def execute(section: Locator, *, status: int) -> Locator:
    """Send the request; what the page shows of an answer with this status."""
    if (clear := section.get_by_role("button", name="Clear")).count():
        clear.click()  # the last answer
    section.get_by_role("button", name="Execute").click()
    answer = section.locator(".live-responses-table tbody tr").first
    expect(answer.locator(".response-col_status")).to_have_text(str(status), timeout=JOB_MS)
    return answer


def answered(section: Locator, *, status: int) -> Any:
    """Send the request; its JSON."""
    return json.loads(execute(section, status=status).locator("pre").first.inner_text())


def field(section: Locator, name: str) -> Locator:
    """The field of a parameter or of a part of the form."""
    row = f"tr[data-param-name='{name}'], tr[data-property-name='{name}']"
    return section.locator(row).locator("input, select, textarea").first


def test_every_route_can_be_found_and_tried(
    server: str, photos: list[Photo], visits: Visits
) -> None:
    visit = visits()
    page = visit.open(f"{server}/docs?url=https://elsewhere.example/api.json", wait=False)
    routes = [
        (operation["tags"][0], operation["operationId"])
        for methods in httpx.get(f"{server}/openapi.json").json()["paths"].values()
        for operation in methods.values()
    ]
    for tag, name in routes:
        expect(page.locator(f"#operations-{tag}-{name}")).to_be_visible()
    expect(page.locator(".opblock")).to_have_count(len(routes))
    page.get_by_role("navigation").get_by_role("link", name="service").click()
    expect(page.locator("#operations-tag-service")).to_be_in_viewport()

    health = tried(page, "service/check_health")
    assert answered(health, status=200)["status"] == "ok"

    generate = tried(page, "generation/generate")
    field(generate, "prefer").fill("wait=60")
    job = answered(generate, status=200)["job"]
    assert job["request"]["prompt"] == "a cup on a wooden table"
    image = tried(page, "generation/get_image")
    field(image, "id").fill(job["images"][0]["id"])
    shown = execute(image, status=200).locator("img")
    expect(shown).to_have_js_property("naturalWidth", job["images"][0]["width"])

    generate.get_by_label("Request content type").select_option("multipart/form-data")
    field(generate, "image").set_input_files(photos[0].payload)
    edit = answered(generate, status=200)["job"]
    assert edit["request"]["edit"]["denoising_strength"] == 0.7

    check = tried(page, "concepts/check_pictures")
    field(check, "images").set_input_files([photo.payload for photo in photos])
    assert answered(check, status=202)["job"]["kind"] == "inspect"

    delete = tried(page, "jobs/delete_job")
    for each in (job, edit):
        field(delete, "id").fill(each["id"])
        execute(delete, status=204)
    assert visit.strangers == set()
    assert visit.complaints == []


def test_a_concept_is_taught_with_the_parts_that_were_filled_in(
    server: str, photos: list[Photo], visits: Visits
) -> None:
    page = visits().open(f"{server}/docs", wait=False)
    create = tried(page, "concepts/create_concept")
    field(create, "images").set_input_files([photo.payload for photo in photos])
    field(create, "name").fill("docs-owl")
    field(create, "training").fill('{"max_train_steps": 0}')
    with page.expect_request("**/concepts") as sent:
        refused = answered(create, status=422)
    # Nothing else is wrong, and nothing is made on the server that others use.
    assert {error["pointer"] for error in refused["errors"]} == {"/training/max_train_steps"}
    assert "multipart/form-data" in sent.value.headers["content-type"]


def test_a_key_is_sent_and_not_kept(tmp_path: Path, visits: Visits) -> None:
    key = f"sk_{'d' * 43}"
    settings = {
        "PERFUSION_AUTH": "required",
        "PERFUSION_BOOTSTRAP_KEY": key,
        "PERFUSION_QUEUE_URL": "redis://127.0.0.1:1/0",
    }
    with serving(tmp_path, **settings) as url:
        page = visits().open(f"{url}/docs#/concepts/list_concepts", wait=False)
        concepts = page.locator("#operations-concepts-list_concepts")
        concepts.get_by_role("button", name="Try it out").click()  # a deep link has opened it
        assert answered(concepts, status=401)["type"] == "/problems/key-missing"
        page.get_by_role("button", name="Authorize", exact=True).click()
        page.get_by_label("Value").fill(key)
        page.get_by_role("button", name="Apply credentials").click()
        page.get_by_role("button", name="Close").last.click()
        assert answered(concepts, status=200)["items"] == []
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        page.reload()
        concepts.get_by_role("button", name="Try it out").click()
        execute(concepts, status=401)


def test_the_documentation_is_readable_on_a_phone_and_by_everyone(
    server: str, visits: Visits
) -> None:
    page = visits(width=390, height=844, lenient=True).open(f"{server}/docs", wait=False)
    generate = tried(page, "generation/generate")
    answer = generate.locator(".response .response-col_description").first
    assert answer.evaluate("cell => cell.clientWidth") > 250
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []


def test_without_javascript_the_documentation_names_openapi(server: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server}/docs")
    page.get_by_role("link", name="/openapi.json").click()
    assert page.url == f"{server}/openapi.json"
    context.close()
