"""The page in a browser: each panel as a visitor uses it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import PATIENCE, wait_until
from playwright.sync_api import Browser, Page, expect

testinfra_hosts = ["ansible://app"]

expect.set_options(timeout=PATIENCE * 1000)

# Records every text that an element shows, however briefly.
RECORD = """id => {
    const element = document.getElementById(id);
    const seen = (window.seen ??= {})[id] = [];
    new MutationObserver(() => seen.push(element.textContent)).observe(element, { childList: true });
}"""
# Chromium reports this for a link that becomes a download, and sometimes for a stream that was read to its end.
GIVEN_UP = "net::ERR_ABORTED"
FILE = bytes(range(256)) * 20_000


@pytest.fixture
def complaints() -> list[str]:
    """The browser's errors and warnings on all pages of a test."""
    return []


@pytest.fixture
def page(browser: Browser, site, complaints: list[str]) -> Iterator[Page]:
    """The page, loaded."""
    page = open_page(browser, site.address, complaints)
    yield page
    page.close()


def open_page(browser: Browser, address: str, complaints: list[str]) -> Page:
    """Open the page in a new browser context, as another visitor would."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE * 1000)
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "requestfailed", lambda request: request.failure == GIVEN_UP or complaints.append(f"{request.url}: {request.failure}")
    )
    page.on("response", lambda answer: answer.status >= 400 and complaints.append(f"{answer.url}: {answer.status}"))
    page.goto(f"{address}/?room=browsers")
    expect(page.locator("#room-state")).to_have_text("connected")
    return page


def percents(page: Page, element: str) -> list[int]:
    """Return the percentages that a recorded element has shown so far."""
    return [int(text.rstrip("%")) for text in page.evaluate("id => window.seen[id]", element)]


def test_the_system_panel_names_release_host_and_every_component(page, site, host):
    expect(page.locator("#release")).to_have_text(site.release())
    expect(page.locator("#host-name")).to_have_text(host.check_output("hostname"))
    for name in ("database", "cache", "channels", "queue", "beat"):
        expect(page.locator(f"#status-{name}")).to_have_attribute("data-state", "ok")
    expect(page.locator("#status-database strong")).to_have_text("PostgreSQL")


def test_two_visitors_see_each_others_messages(page, browser, site, complaints):
    other = open_page(browser, site.address, complaints)
    for speaker, listener, text in ((page, other, "from the first page"), (other, page, "from the second page")):
        speaker.fill("#room-input", text)
        speaker.click("#room-send")
        expect(listener.locator("#room-log .received").get_by_text(text)).to_be_visible()
    other.close()
    assert not complaints


def test_a_job_shows_its_progress_as_it_comes_over_the_websocket(page, complaints):
    page.evaluate(RECORD, "job-percent")
    page.fill("#job-seconds", "5")
    with page.expect_websocket(lambda socket: "/ws/jobs/" in socket.url) as opened:
        page.click("#job-start")
    frames = []
    opened.value.on("framereceived", lambda frame: frames.append(frame))
    expect(page.locator("#job-state")).to_have_text("done")
    expect(page.locator("#job-completions")).to_have_text("once")
    expect(page.locator("#job-runner")).to_have_text("Celery")
    shown = percents(page, "job-percent")
    assert shown == sorted(shown)
    assert shown[-1] == 100
    assert len({percent for percent in shown if 0 < percent < 100}) >= 3, shown
    assert len(frames) >= 3, "the steps came one by one"
    assert not complaints


def test_a_file_goes_up_and_comes_back_the_same(page, complaints):
    page.evaluate(RECORD, "files-percent")
    page.set_input_files("#files-input", {"name": "five.bin", "mimeType": "application/octet-stream", "buffer": FILE})
    expect(page.locator("#files-status")).to_contain_text("five.bin is on the server")
    assert percents(page, "files-percent") == [20, 40, 61, 81, 100], "one step for each piece of 1 MiB"

    page.get_by_role("button", name="Download five.bin with progress").first.click()
    expect(page.locator("#files-status")).to_have_text("Received five.bin, identical to the uploaded file.")
    came = percents(page, "files-percent")[5:]
    assert came == sorted(came)
    assert came[-1] == 100

    with page.expect_download() as download:
        page.get_by_role("link", name="five.bin").first.click()
    received = Path(download.value.path()).read_bytes()
    assert hashlib.sha256(received).digest() == hashlib.sha256(FILE).digest()
    assert not complaints


def test_the_other_panels_answer(page, complaints):
    expect(page.locator("#hello-output")).to_contain_text("Hello from DRF with Uvicorn!")

    page.fill("#chat-input", "Hi")
    page.click("#chat-send")
    expect(page.locator("#chat-log .received")).to_have_text("Echo: Hi")

    page.fill("#ask-input", "How is a release named?")
    page.click("#ask-send")
    expect(page.locator("#ask-answer")).to_have_attribute("data-state", "done")
    assert len(page.inner_text("#ask-answer")) > 40
    assert page.locator("#ask-sources li").count() >= 1

    page.fill("#notes-input", "a note in PostgreSQL")
    page.click("#notes-save")
    expect(page.locator("#notes-list li").first).to_contain_text("a note in PostgreSQL")

    before = int(page.inner_text("#cache-hits"))
    # The first request may be a miss: a value is kept for 15 s.
    wait_until(lambda: page.click("#cache-again") or int(page.inner_text("#cache-hits")) > before)
    expect(page.locator("#cache-result")).to_contain_text("Redis")

    page.click("#queries-again")
    expect(page.locator("#queries-database")).to_have_text("on PostgreSQL")
    expect(page.locator("#queries-list > div")).to_have_count(5)

    page.click("#outgoing-again")
    expect(page.locator("#outgoing-list dd")).to_contain_text(["200"] * 3)
    expect(page.locator("#outgoing-asked")).to_have_text("Requested with httpx: http://127.0.0.1.")
    assert not complaints


def test_it_looks_right_light_dark_and_narrow(page, tmp_path):
    shots = Path(os.environ.get("SCREENSHOTS", tmp_path))
    expect(page.locator("#ask-answer")).to_have_attribute("data-state", "done")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=shots / f"{scheme}.png", full_page=True)
    page.set_viewport_size({"width": 360, "height": 740})
    page.screenshot(path=shots / "narrow.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing is wider than a phone"
