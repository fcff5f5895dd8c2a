"""The operator's page in a real browser, over a live service."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from direct_service import Service
from live_service import live
from playwright.sync_api import Browser, Page, expect, sync_playwright
from small_system import System, picture, samples

from lmeraser.client.client import Client
from lmeraser.client.responses import Prediction
from serving.api_keys import create_api_key

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the package chromium"),
]
ARTIFACTS = Path(__file__).parents[2] / "artifacts"
SystemOf = Callable[..., System]
HOSTILE = "<img src=x onerror=document.title='taken'>"
AREAS = """() => Object.fromEntries([...document.querySelectorAll("#treemap > div")].map((tile) => {
    const box = tile.getBoundingClientRect();
    return [tile.dataset.key, box.width * box.height];
}))"""
_OPTIONS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@dataclass
class Visit:
    """An open page, the hosts that it called, the lists that it asked for and its errors."""

    page: Page
    url: str
    hosts: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS, chromium_sandbox=False)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[str], Visit]]:
    pages: list[Page] = []

    def open_page(url: str) -> Visit:
        pages.append(browser.new_page(viewport={"width": 1200, "height": 900}))
        visit = Visit(pages[-1], url)
        visit.page.on("request", lambda request: visit.hosts.add(urlsplit(request.url).netloc))
        visit.page.on("request", lambda request: visit.asked.add(request.url.rpartition("/v1/")[2]))
        visit.page.on("console", lambda line: visit.errors.append(line.text) if line.type == "error" else None)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.goto(url)
        return visit

    yield open_page
    for page in pages:
        page.close()


@contextmanager
def behind_a_prefix(url: str) -> Iterator[str]:
    """A proxy that forwards paths under /lm, without that prefix, and answers everything else with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            names = ("authorization", "content-type", "accept")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            headers["x-forwarded-for"] = self.client_address[0]
            answer = httpx2.get(url + self.path.removeprefix("/lm"), headers=headers, trust_env=False)
            inside = self.path.startswith("/lm/")
            self.send_response(answer.status_code if inside else 404)
            self.send_header("Content-Type", answer.headers["content-type"])
            self.end_headers()
            self.wfile.write(answer.content if inside else b"")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def drop(page: Page, name: str, data: bytes) -> None:
    """Drop a file on the zone."""
    script = """([name, data]) => {
        const transfer = new DataTransfer();
        const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type: "image/png" }));
        return transfer;
    }"""
    transfer = page.evaluate_handle(script, [name, base64.b64encode(data).decode()])
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def test_the_treemap_has_a_tile_per_cluster_whose_area_is_proportional_to_its_rows(
    system_of: SystemOf, visit: Callable[[str], Visit]
) -> None:
    system = system_of()
    with live(Service(system)) as url:
        seen = visit(url)
        expect(seen.page.locator("#rows")).to_have_text("90")
        # In one step: a redraw replaces all tiles.
        areas: dict[str, float] = seen.page.evaluate(AREAS)
        seen.page.screenshot(path=ARTIFACTS / "page.png")
    entries = system.newest().clusters
    assert areas.keys() == {entry.key for entry in entries}
    for entry in entries:
        assert areas[entry.key] / sum(areas.values()) == pytest.approx(entry.rows / 90, rel=0.02)
    assert seen.hosts == {urlsplit(url).netloc}
    assert {path for path in seen.asked if path.startswith(("clusters", "deletions"))} == {
        "clusters?limit=500",
        "deletions?limit=50",
    }
    assert seen.errors == []


def test_a_dropped_image_shows_its_answer_and_its_cluster(system_of: SystemOf, visit: Callable[[str], Visit]) -> None:
    with live(Service(system_of())) as url, Client(url) as client:
        answer = client.predict(picture(301))
        assert isinstance(answer, Prediction)
        seen = visit(url)
        expect(seen.page.locator("#treemap > div").first).to_be_visible()
        drop(seen.page, f"{HOSTILE}.png", picture(301))
        expect(seen.page.locator("#prediction .label")).to_have_text(answer.label)
        expect(seen.page.locator("#treemap .answered")).to_have_attribute("data-key", answer.cluster or "")
        expect(seen.page.locator("#drop-text")).to_have_text(f"{HOSTILE}.png")
        shares = [
            float(text.removesuffix(" %")) for text in seen.page.locator("#prediction output").all_text_contents()
        ]
        assert shares == pytest.approx([100 * share for share in answer.probabilities.values()], abs=0.06)
        seen.page.set_input_files("#file", {"name": "rows.png", "mimeType": "image/png", "buffer": b"no image"})
        expect(seen.page.locator("#error")).to_contain_text("cannot be decoded")
        assert seen.page.title() == "LMEraser"
        assert seen.errors == []


def test_a_subject_is_deleted_and_followed_to_its_receipt(system_of: SystemOf, visit: Callable[[str], Visit]) -> None:
    system = system_of()
    with live(Service(system)) as url:
        seen = visit(url)
        seen.page.fill("#subjects", f"u3\n{HOSTILE}")
        seen.page.click("#delete-form .danger")
        expect(seen.page.locator("#followed .steps .done").last).to_have_text("completed", timeout=60_000)
        expect(seen.page.locator("#followed")).to_contain_text(HOSTILE)
        expect(seen.page.locator("#rows")).to_have_text("89")
        expect(seen.page.locator("#deletion-rows tr")).to_contain_text(["completed"])
        with seen.page.expect_download() as download:
            seen.page.click("#followed button")
        receipt = json.loads(Path(download.value.path()).read_text())
        assert seen.page.title() == "LMEraser"
        assert seen.errors == []
    assert receipt["completed_at"] is not None
    assert system.coordinator_says(receipt["deletion"]) == "completed"
    assert system.newest().root == system.fresh_root([row for row in samples(0, 90) if row.subject_id != "u3"])


def test_a_deletion_is_previewed_and_then_does_exactly_that(system_of: SystemOf, visit: Callable[[str], Visit]) -> None:
    system = system_of()
    with live(Service(system)) as url:
        seen = visit(url)
        seen.page.fill("#subjects", "u3\nnobody")
        seen.page.click("#delete-form [name=preview]")
        expect(seen.page.locator("#previewed")).to_contain_text("Rows to erase1")
        expect(seen.page.locator("#previewed")).to_contain_text("Not in the system: nobody")
        expect(seen.page.locator("#no-deletions")).to_be_visible()
        seen.page.click("#previewed .danger")
        expect(seen.page.locator("#followed")).to_contain_text("Erased as previewed.", timeout=60_000)
        expect(seen.page.locator("#rows")).to_have_text("89")
        assert seen.errors == []


def test_a_table_is_deleted_unless_a_line_is_malformed(
    system_of: SystemOf, visit: Callable[[str], Visit], tmp_path: Path
) -> None:
    table = tmp_path / "gone.csv"
    with live(Service(system_of())) as url:
        seen = visit(url)
        table.write_text('id\ns3\n""\n')
        seen.page.set_input_files("#table", table)
        seen.page.click("#delete-form .danger")
        expect(seen.page.locator("#error")).to_contain_text("line 3 has an id that is empty")
        expect(seen.page.locator("#no-deletions")).to_be_visible()
        table.write_text("id\ns3\ns4\n")
        seen.page.set_input_files("#table", table)
        seen.page.click("#delete-form .danger")
        expect(seen.page.locator("#rows")).to_have_text("88", timeout=60_000)


def test_when_a_key_is_needed_the_page_says_so_and_accepts_one(
    system_of: SystemOf, visit: Callable[[str], Visit]
) -> None:
    system = system_of()
    keys = system.keys.parent / "guarded-keys"
    shutil.copytree(system.keys, keys)
    guarded = System(system.store, keys)
    _, secret = create_api_key(keys, ["admin"], "page")
    with live(Service(guarded)) as url:
        seen = visit(url)
        expect(seen.page.locator("#error")).to_contain_text("scope 'read' is needed")
        expect(seen.page.locator("#rows")).to_have_text("–")
        seen.page.fill("#key", secret)
        seen.page.click("#key-form button")
        expect(seen.page.locator("#rows")).to_have_text("90")
        expect(seen.page.locator("#error")).to_be_hidden()
        assert secret not in seen.page.url


def try_health(page: Page) -> None:
    """Call /healthz from the documentation page."""
    page.locator("[id*=healthz] .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")


def test_the_api_documentation_needs_nothing_from_other_hosts(
    system_of: SystemOf, visit: Callable[[str], Visit]
) -> None:
    with live(Service(system_of())) as url:
        seen = visit(f"{url}/docs")
        try_health(seen.page)
        seen.page.screenshot(path=ARTIFACTS / "docs.png", full_page=True)
    assert seen.hosts == {urlsplit(url).netloc}
    assert seen.errors == []


def test_behind_a_proxy_with_a_path_prefix_the_pages_find_their_files(
    system_of: SystemOf, visit: Callable[[str], Visit]
) -> None:
    system = system_of()
    keys = system.keys.parent / "proxied-keys"
    shutil.copytree(system.keys, keys)
    _, secret = create_api_key(keys, ["admin"], "page")
    with live(Service(System(system.store, keys))) as url, behind_a_prefix(url) as proxied:
        seen = visit(f"{proxied}/lm/")
        seen.page.fill("#key", secret)
        seen.page.click("#key-form button")
        expect(seen.page.locator("#rows")).to_have_text("90")
        docs = visit(f"{proxied}/lm/docs")
        try_health(docs.page)
    assert docs.errors == []
