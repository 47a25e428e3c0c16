"""The page of the task API in a real, headless Chromium.

It is looked for in ``MEMSTACK_TEST_CHROMIUM``, on the path, and where Playwright keeps its own
(``python -m playwright install chromium``); where there is none, these tests are skipped, and say so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.task_api.conftest import Server, token_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMED: Final = os.environ.get("MEMSTACK_TEST_CHROMIUM")  # read before the tests' own environment begins
_PATIENCE: Final = 60_000  # milliseconds
MORNING: Final = "I prefer tasks in the morning"
EVENING: Final = "Actually, evenings work better for me now"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="there is no Playwright")
    on_path = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    with playwright.sync_playwright() as driver:
        known = [NAMED, *on_path, driver.chromium.executable_path]
        found = next((path for path in known if path and Path(path).exists()), None)
        if found is None:
            pytest.skip("there is no Chromium: set MEMSTACK_TEST_CHROMIUM, or `python -m playwright install chromium`")
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])  # loads our own page alone
        playwright.expect.set_options(timeout=_PATIENCE)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """An empty page; at the end, it has told of no error, and has asked nobody but the server."""
    opened = browser.new_page()
    opened.set_default_timeout(_PATIENCE)
    errors: list[str] = []
    asked: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: asked.append(request.url))
    yield opened
    opened.close()
    assert [error for error in errors if "409" not in error and "401" not in error] == []
    assert [url for url in asked if not url.startswith((server.url, "data:"))] == []


def _texts(page: Page) -> list[str]:
    return page.locator("#memories .text").all_inner_texts()


def _say(page: Page, text: str) -> None:
    page.get_by_label("Tell something").fill(text)
    page.get_by_role("button", name="Remember").click()


def test_a_person_sees_corrects_and_forgets(page: Page, server: Server) -> None:
    """What is said appears; a contradiction is asked about; what took its place is shown; it can all be forgotten."""
    from playwright.sync_api import expect

    page.goto(f"{server.url}/#token={token_of('page user')}")
    expect(page.get_by_text("Nothing.")).to_be_visible()
    assert "token" not in page.url

    _say(page, MORNING)
    expect(page.locator("#memories .text")).to_have_text([MORNING])

    question = page.get_by_role("alertdialog")
    _say(page, EVENING)
    expect(question).to_contain_text(MORNING)
    page.get_by_role("button", name="Keep it").click()
    expect(question).to_be_hidden()
    assert _texts(page) == [MORNING]

    _say(page, EVENING)
    page.get_by_role("button", name="Replace it").click()
    expect(page.locator("#memories .text")).to_have_text([EVENING])
    expect(page.locator("#memories .past li")).to_have_text([MORNING])

    _say(page, "<img src=x onerror=alert(1)><b id=evil>bold</b>")
    expect(page.locator("#memories .text")).to_have_count(2)
    assert page.locator("#evil, main img").count() == 0

    page.get_by_role("button", name=f"Forget: {EVENING}").click()
    expect(page.locator("#memories .text")).to_have_count(1)
    assert EVENING not in _texts(page)

    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Forget everything").click()
    assert len(_texts(page)) == 1
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Forget everything").click()
    expect(page.get_by_role("status")).to_have_text("Everything was erased.")
    expect(page.get_by_text("Nothing.")).to_be_visible()


def test_a_token_that_is_none(page: Page, server: Server) -> None:
    """A wrong token is told, and nothing is shown; a right one typed in opens."""
    from playwright.sync_api import expect

    page.goto(server.url)
    page.get_by_label("Token").fill(token_of("other", secret="another secret, of 32 characters and more"))
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("status")).to_contain_text("token is needed")
    expect(page.locator("#known")).to_be_hidden()
    page.get_by_label("Token").fill(token_of("other"))
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#known")).to_be_visible()
