"""The page of the task API in a real, headless Chromium.

It is looked for in ``MEMSTACK_TEST_CHROMIUM``, on the path, and where Playwright keeps its own
(``python -m playwright install chromium``); where there is none, these tests are skipped, and say so.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.task_api.conftest import Server, token_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Route

NAMED: Final = os.environ.get("MEMSTACK_TEST_CHROMIUM")  # read before the tests' own environment begins
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS: Final = (
    "--no-sandbox",  # it loads our own page alone, and containers allow no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE: Final = 60_000  # milliseconds
MORNING: Final = "I prefer tasks in the morning"
EVENING: Final = "Actually, evenings work better for me now"
HOSTILE: Final = (
    "<img src=x onerror=alert(1)><b id=evil>bold</b>",
    "<script>alert(1)</script>",
    "</p></li></ul><h1 id=evil>mine</h1>",
    "\"><svg onload=alert(1)> & &lt;b&gt; 'quoted' `ticked` \\",
    "{{7*7}} ${alert(1)} javascript:alert(1)",
    "\u202eright to left\u202c, \u05d0\u05d1\u05d2, 日本語, 👩\u200d🚀",
)


def _chromium(own: str) -> str:
    if NAMED is not None:
        assert Path(NAMED).is_file(), "MEMSTACK_TEST_CHROMIUM names no file"
        return NAMED
    known = [shutil.which(name) for name in _NAMES]
    found = next((path for path in (*known, own) if path and Path(path).exists()), None)
    if found is None:
        pytest.skip("there is no Chromium: see CONTRIBUTING.md for how to get one")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="there is no Playwright")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=_chromium(driver.chromium.executable_path), args=list(_ARGUMENTS)
        )
        playwright.expect.set_options(timeout=_PATIENCE)
        yield started
        started.close()


Open = Callable[[], "Page"]


@pytest.fixture
def new_page(browser: Browser, server: Server) -> Iterator[Open]:
    """Makes empty pages; at the end, none has told of an error, shown a dialog, or asked anybody but the server."""
    errors: list[str] = []
    asked: list[str] = []

    def made() -> Page:
        opened = browser.new_page(locale="en-GB", timezone_id="Europe/Lisbon")
        opened.set_default_timeout(_PATIENCE)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.on("request", lambda request: asked.append(request.url))
        return opened

    yield made
    for context in browser.contexts:
        context.close()
    assert [error for error in errors if not re.search("(401|409|500|503) |ERR_FAILED", error)] == []
    assert [url for url in asked if not url.startswith((server.url, "data:"))] == []


@pytest.fixture
def page(new_page: Open) -> Page:
    return new_page()


def _enter(page: Page, server: Server, user: str) -> None:
    from playwright.sync_api import expect

    page.goto(f"{server.url}/#token={token_of(user)}")
    expect(page.get_by_role("heading", name="Memories")).to_be_visible()


def _texts(page: Page) -> list[str]:
    return page.locator("#memories .text").all_inner_texts()


def _say(page: Page, text: str) -> None:
    page.get_by_label("Tell something").fill(text)
    page.get_by_role("button", name="Remember").click()


@contextmanager
def _answering(page: Page, *, accept: bool) -> Iterator[None]:
    """One dialog is asked for in the block, and answered."""
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.type)
        if accept:
            dialog.accept()
        else:
            dialog.dismiss()

    page.once("dialog", answer)
    yield
    assert asked == ["confirm"]


def test_a_person_sees_corrects_and_forgets(page: Page, server: Server) -> None:
    """What is said appears; a contradiction is asked about; what took its place is shown; it can all be forgotten."""
    from playwright.sync_api import expect

    _enter(page, server, "page user")
    expect(page.get_by_text("Nothing is remembered of you")).to_be_visible()
    assert "token" not in page.url

    _say(page, MORNING)
    expect(page.locator("#memories .text")).to_have_text([MORNING])

    question = page.get_by_role("alertdialog", name="That contradicts what you said before")
    _say(page, EVENING)
    expect(question).to_contain_text(MORNING)
    expect(question).to_contain_text(EVENING)
    page.get_by_role("button", name="Keep what I said before").click()
    expect(question).to_be_hidden()
    assert _texts(page) == [MORNING]

    _say(page, EVENING)
    page.get_by_role("button", name="Replace it").click()
    expect(page.locator("#memories .text")).to_have_text([EVENING])
    expect(page.locator("#memories .past s")).to_have_text([MORNING])
    _say(page, MORNING)
    page.get_by_role("button", name="Replace it").click()
    expect(page.locator("#memories .text")).to_have_text([MORNING])
    expect(page.locator("#memories .past s")).to_have_text([MORNING, EVENING])

    _say(page, "I like tea")
    expect(page.locator("#memories .text")).to_have_text(["I like tea", MORNING])
    page.get_by_role("button", name=f"Forget: {MORNING}").click()
    expect(page.locator("#memories .text")).to_have_text(["I like tea"])
    soon = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    with server.client("page user") as client:
        for then in (None, soon):  # and what it took the place of has not come back
            found = client.get("/memories", params={} if then is None else {"as_of": then}).json()
            assert [memory["text"] for memory in found] == ["I like tea"]
        client.post("/tasks", json={"title": "Buy tea"})

    everything = page.get_by_role("button", name="Forget everything")
    with _answering(page, accept=False):
        everything.click()
    assert _texts(page) == ["I like tea"]
    with _answering(page, accept=True):
        everything.click()
    expect(page.get_by_role("status")).to_contain_text("Everything was erased")
    expect(page.get_by_role("status")).to_contain_text("1 task.")
    expect(page.get_by_text("Nothing is remembered of you")).to_be_visible()
    with server.client("page user") as client:
        assert client.get("/memories").json() == []


def test_hostile_texts_are_texts(page: Page, server: Server) -> None:
    """Whatever was said is shown letter by letter, and nothing of it becomes part of the page."""
    from playwright.sync_api import expect

    dialogs: list[str] = []

    def told(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", told)
    _enter(page, server, "hostile")
    for count, text in enumerate(HOSTILE, 1):
        _say(page, text)
        expect(page.locator("#memories .text")).to_have_count(count)
    shown = page.locator("#memories .text").evaluate_all("found => found.map(one => one.textContent)")
    assert shown == list(reversed(HOSTILE))
    _say(page, f"{HOSTILE[0]} in the morning")
    _say(page, f"{HOSTILE[1]} in the evening")
    expect(page.get_by_role("alertdialog")).to_contain_text(HOSTILE[0])
    page.get_by_role("button", name="Replace it").click()
    expect(page.locator("#memories .past s")).to_have_text([f"{HOSTILE[0]} in the morning"])
    for text in HOSTILE[:2]:
        page.get_by_role("button", name=f"Forget: {text}", exact=True).click()
        expect(page.get_by_role("button", name=f"Forget: {text}", exact=True)).to_have_count(0)
    assert page.locator("#evil, main img, main svg, main script").count() == 0
    assert dialogs == []


def test_nobody_sees_anothers_memories(new_page: Open, server: Server) -> None:
    """Two people at once: each sees their own, and one who forgets everything takes nothing of the other's."""
    from playwright.sync_api import expect

    one, other = new_page(), new_page()
    _enter(one, server, "one <b>of</b> two")
    _enter(other, server, "the other")
    _say(one, MORNING)
    expect(one.locator("#memories .text")).to_have_text([MORNING])
    _say(other, EVENING)  # it contradicts nothing that this one said
    expect(other.locator("#memories .text")).to_have_text([EVENING])
    one.reload()
    expect(one.get_by_label("Token")).to_be_visible()  # the token is kept nowhere
    _enter(one, server, "one <b>of</b> two")
    expect(one.locator("#memories .text")).to_have_text([MORNING])
    with _answering(one, accept=True):
        one.get_by_role("button", name="Forget everything").click()
    expect(one.get_by_text("Nothing is remembered of you")).to_be_visible()
    _say(other, "I like tea")
    expect(other.locator("#memories .text")).to_have_text(["I like tea", EVENING])


def test_it_can_be_used_by_keyboard(page: Page, server: Server) -> None:
    """All of it by keys alone; the focus is where the next step is, and every control says what it does."""
    from playwright.sync_api import expect

    keys = page.keyboard
    page.goto(server.url)
    expect(page.get_by_label("Token")).to_be_focused()
    keys.insert_text(token_of("keys"))
    keys.press("Enter")
    expect(page.get_by_label("Tell something")).to_be_focused()
    for text in (MORNING, "I like tea"):
        keys.insert_text(text)
        keys.press("Enter")
        expect(page.get_by_role("button", name=f"Forget: {text}")).to_be_visible()
        expect(page.get_by_label("Tell something")).to_be_focused()
    keys.insert_text(EVENING)
    keys.press("Enter")
    expect(page.get_by_role("button", name="Keep what I said before")).to_be_focused()
    keys.press("Escape")
    expect(page.get_by_role("alertdialog")).to_be_hidden()
    expect(page.get_by_label("Tell something")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("button", name="Keep what I said before")).to_be_focused()
    keys.press("Shift+Tab")
    keys.press("Enter")
    expect(page.locator("#memories .text")).to_have_text([EVENING, "I like tea"])
    keys.press("Tab")
    keys.press("Tab")
    expect(page.get_by_role("button", name=f"Forget: {EVENING}")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("button", name="Forget: I like tea")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Memories")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("Forgotten.")
    controls = page.get_by_role("main").aria_snapshot()
    assert 'textbox "Tell something"' in controls
    assert not re.search(r"(button|textbox)\s*(:|$)", controls, re.MULTILINE), "one without a name"


@pytest.mark.parametrize("width", [320, 1280])
def test_long_texts_fit(page: Page, server: Server, width: int) -> None:
    """Nothing is wider than the window, on a telephone either; times are readable, and exact for machines."""
    from playwright.sync_api import expect

    user = f"long {width}"
    with server.client(user) as client:
        for text in ("x" * 500, "a word " * 60 + "in the morning", "日" * 500):
            client.post("/preferences", json={"text": text, "since": "2026-01-31T08:00:00Z"}).raise_for_status()
    page.set_viewport_size({"width": width, "height": 700})
    _enter(page, server, user)
    expect(page.locator("#memories .text")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert 24 <= box["height"] <= 60
    since = page.locator("#memories time").first
    expect(since).to_have_text(re.compile("31 Jan 2026.* 08:00"))
    assert since.get_attribute("datetime") == "2026-01-31T08:00:00Z"


def test_what_is_asked_for_at_once_is_done_in_order(page: Page, server: Server) -> None:
    """What is said while something else is being done is said afterwards; a double click does a thing once."""
    from playwright.sync_api import expect

    _enter(page, server, "hasty")
    texts = [f"note number {number}" for number in range(5)]
    for text in texts:
        _say(page, text)
    page.get_by_label("Tell something").fill("not said yet")
    expect(page.locator("#memories .text")).to_have_text(texts[::-1])
    expect(page.get_by_label("Tell something")).to_have_value("not said yet")
    page.get_by_role("button", name=f"Forget: {texts[0]}").dblclick()
    expect(page.locator("#memories .text")).to_have_text(texts[:0:-1])
    expect(page.get_by_role("status")).to_have_text("Forgotten.")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_more_than_a_page(page: Page, server: Server) -> None:
    """The newest are shown, and more on request, down to the last."""
    from playwright.sync_api import expect

    with server.client("hoarder") as client:
        for number in range(53):
            client.post("/preferences", json={"text": f"note number {number}"}).raise_for_status()
    _enter(page, server, "hoarder")
    expect(page.locator("#memories .text")).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#memories .text")).to_have_count(53)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    expect(page.get_by_role("button", name="Forget: note number 2", exact=True)).to_be_focused()


def test_a_token_that_is_none(page: Page, server: Server) -> None:
    """A wrong token is told, and nothing is shown; a right one typed in opens; one that ends is asked for again."""
    from playwright.sync_api import expect

    page.goto(server.url)
    for wrong in ("nonsense", "a.b.c", token_of("other", secret="another secret, of 32 characters and more")):
        page.get_by_label("Token").fill(wrong)
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("alert")).to_contain_text("token")
        expect(page.locator("#known")).to_be_hidden()
    page.get_by_label("Token").fill(token_of("other"))
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#known")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    _say(page, MORNING)
    expect(page.locator("#memories .text")).to_have_count(1)
    page.route("**/preferences", lambda route: route.fulfill(status=401, json={"detail": "expired"}))
    _say(page, "I like tea")
    expect(page.get_by_role("alert")).to_contain_text("not valid, or no longer")
    expect(page.get_by_label("Token")).to_be_focused()
    assert MORNING not in page.get_by_role("main").inner_text()


def test_a_server_that_fails(page: Page, server: Server) -> None:
    """What went wrong is told, what was typed is still there, and the next try works."""
    from playwright.sync_api import expect

    _enter(page, server, "unlucky")
    answers: list[tuple[Callable[[Route], None], str]] = [
        (lambda route: route.abort(), "cannot be reached"),
        (lambda route: route.fulfill(status=503, json={"detail": "Try again."}), "Try again."),
        (lambda route: route.fulfill(status=500, body="<h1>oops</h1>"), "The server failed (500)."),
    ]
    for answer, told in answers:
        page.route("**/preferences", answer)
        _say(page, MORNING)
        expect(page.get_by_role("alert")).to_contain_text(told)
        expect(page.get_by_label("Tell something")).to_have_value(MORNING)
        page.unroute("**/preferences")
    page.get_by_role("button", name="Remember").click()
    expect(page.locator("#memories .text")).to_have_text([MORNING])
    expect(page.get_by_role("alert")).to_be_hidden()
