"""The page in a real, headless Chromium. Needs Debian's `chromium`, and `pip install playwright axe-playwright-python`:

    pytest -m slow tests/integration/server/test_page_browser.py

With GOLLAMA_SCREENSHOTS=FOLDER it leaves pictures there, to be looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_thinking import THINKING
from tests.support.answers import wait_until
from tests.support.server import Running, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
SIZES = {"phone": (360, 740), "desktop": (1280, 800)}
LOADING = {"context_size": 1024, "max_sequences": 2, "threads": 1}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running("smollm2", "small=gemma3:270m", loading=LOADING, options={"small": {"chat_template": THINKING}}) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(served: Running, browser: Any) -> Iterator[Open]:
    """Opens the page; at the end nothing may have been complained of, and nobody else been asked."""
    contexts, complaints, asked = [], [], []

    def open_page(size: str = "desktop", scheme: str = "light", at: Running = served, more: dict[str, Any] | None = None) -> Any:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=size == "phone")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        if more is not None:
            page.route("**/v1/chat/completions", lambda route: route.continue_(post_data={**route.request.post_data_json, **more}))
        page.goto(at.url)
        page.wait_for_selector("#model option", state="attached")
        return page

    open_page.complaints = complaints  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert asked and all(url.startswith("http://127.0.0.1:") for url in asked)


def say(page: Any, text: str) -> None:
    """By keyboard alone."""
    page.focus("#message")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def answer(page: Any) -> Any:
    """The last answer, when it has ended."""
    page.wait_for_selector(".turn.assistant:last-child .foot", timeout=60_000)
    return page.locator(".turn.assistant").last


def idle(server: Running) -> bool:
    return all(model.llm is None or model.llm.stats().running == 0 for model in server.service.models())


def test_a_message_is_answered_as_it_comes(opened: Open) -> None:
    page = opened(more={"ignore_eos": True, "max_tokens": 200})
    page.evaluate("""() => { window.seen = new Set(); new MutationObserver(() => {
        const last = document.querySelector('.turn.assistant'); if (last) window.seen.add(last.textContent.length);
    }).observe(document.getElementById('log'), {childList: true, subtree: true, characterData: true}) }""")
    say(page, "Hello there")
    reply = answer(page)
    assert page.locator(".turn.user").inner_text().endswith("Hello there")
    assert "200 tokens" in reply.inner_text() and page.evaluate("window.seen.size") > 20
    assert reply.locator("p").first.inner_text() in page.locator("#status").text_content()
    assert page.evaluate("document.activeElement.id") == "message" and page.input_value("#message") == ""


def test_a_conversation_is_kept_and_begun_anew(opened: Open) -> None:
    sent: list[Any] = []
    page = opened()
    page.on("request", lambda request: sent.append(request.post_data_json) if request.method == "POST" else None)
    page.click("#show-settings")
    page.fill("#system", "You are a parrot.")
    page.fill("#temperature", "0")
    page.fill("#most", "5")
    for number, text in enumerate(("One", "Two")):
        say(page, text)
        page.locator(".foot").nth(number).wait_for()
    page.click("#new")
    assert page.locator(".turn").count() == 0 and page.is_visible("#empty")
    say(page, "Three")
    answer(page)
    assert [[message["role"] for message in body["messages"]] for body in sent] == [
        ["system", "user"], ["system", "user", "assistant", "user"], ["system", "user"]]
    assert sent[0]["temperature"] == 0 and sent[0]["max_tokens"] == 5 and sent[0]["model"] == "smollm2"


def test_shift_and_enter_begin_a_line(opened: Open) -> None:
    page = opened()
    page.focus("#message")
    page.keyboard.type("a")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("b")
    assert page.input_value("#message") == "a\nb" and page.locator(".turn").count() == 0


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_an_answer_is_stopped(opened: Open, served: Running, way: str) -> None:
    page = opened(more={"ignore_eos": True, "max_tokens": 900})
    say(page, "Tell me a story")
    page.wait_for_selector(".turn.assistant p:not(.foot)")
    page.keyboard.press("Escape") if way == "Escape" else page.click("#stop")
    assert "stopped" in answer(page).inner_text() and page.is_visible("#send") and page.is_hidden("#stop")
    wait_until(lambda: idle(served))


def test_another_model_answers_and_its_reasoning_is_folded(opened: Open) -> None:
    page = opened(more={"thinking_budget_tokens": 6, "max_tokens": 30, "ignore_eos": True, "temperature": 0})
    page.select_option("#model", "small")
    say(page, "Why?")
    reply = answer(page)
    assert reply.locator("h3").inner_text() == "small" and not reply.locator("details").evaluate("one => one.open")
    thought, said = reply.locator("details div").text_content(), reply.locator("> div").inner_text()
    assert thought and said and "think>" not in thought + said


def test_what_a_model_says_is_text(opened: Open) -> None:
    page = opened(more={"grammar": r'root ::= "<img src=x onerror=alert(1)>\n\n```html\n<script>alert(2)</script>\n```\nafter"'})
    say(page, "Attack")
    reply = answer(page)
    assert reply.locator("p").first.inner_text() == "<img src=x onerror=alert(1)>"
    assert reply.locator("pre code").inner_text() == "<script>alert(2)</script>" and "after" in reply.inner_text()
    assert reply.locator("img, script").count() == 0


def test_markup_cannot_be_made_of_text_at_all(opened: Open) -> None:
    page = opened()
    refused = page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>'; return false } catch { return true } }")
    assert refused
    assert all("TrustedHTML" in one for one in opened.complaints)  # type: ignore[attr-defined]
    opened.complaints.clear()  # type: ignore[attr-defined]


def test_metrics_are_drawn_and_written(opened: Open) -> None:
    page = opened(more={"ignore_eos": True, "max_tokens": 30})
    say(page, "Hello")
    answer(page)
    wait_until(lambda: page.evaluate("[...document.querySelectorAll('polyline')].every(one => one.points.length > 1)"), 30)
    page.click("summary:has-text('table')")
    rows = dict(page.locator("#rows tr").evaluate_all("rows => rows.map(row => [row.cells[0].textContent, row.cells[3].textContent])"))
    assert len(rows) == 6 and float(rows["Tokens per second"]) > 0 and rows["Time to first token"].endswith(" ms")
    assert float(rows["KV in use"].split()[0]) > 0 and float(rows["Model memory"].split()[0]) > 50


def test_the_key_goes_along_and_stays_in_the_tab(opened: Open) -> None:
    page = opened()
    page.click("#show-settings")
    page.fill("#key", "one-key")
    with page.expect_request("**/v1/models") as asked:
        page.keyboard.press("Tab")
    assert asked.value.headers["authorization"] == "Bearer one-key"
    assert page.evaluate("[sessionStorage.getItem('gollama.key'), localStorage.length, document.cookie]") == ["one-key", 0, ""]
    assert "one-key" not in page.url


def test_an_error_is_told(opened: Open) -> None:
    page = opened(more={"max_tokens": -5})
    say(page, "Hello")
    page.wait_for_selector("#alert:not([hidden])")
    assert "max_tokens" in page.inner_text("#alert") and "failed" in answer(page).inner_text()
    assert all("400" in one for one in opened.complaints)  # type: ignore[attr-defined] # the browser's own line about the status
    opened.complaints.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_and_has_no_barriers(opened: Open, size: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    page = opened(size, scheme, more={"temperature": 0, "max_tokens": 120})
    say(page, "Write a Python function that adds two numbers, in a code block.")
    answer(page)
    for name in ("chat", "settings", "metrics"):
        if name != "chat" and page.is_hidden(f"#{name}"):
            page.click(f"#show-{name}")
            if name == "metrics":
                wait_until(lambda: page.evaluate("document.querySelector('polyline').points.length > 0"), 30)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"), name
        assert barriers(page, axe) == {}, name
        picture(page, f"{size}-{scheme}-{name}")


def barriers(page: Any, axe: Any) -> dict[str, list[str]]:
    """What axe calls serious or critical: the rule, and the elements that break it."""
    return {one["id"]: [node["html"] for node in one["nodes"]] for one in axe.run(page).response["violations"]
            if one["impact"] in ("serious", "critical")}


def picture(page: Any, name: str) -> None:
    if os.environ.get("GOLLAMA_SCREENSHOTS"):
        page.screenshot(path=Path(os.environ["GOLLAMA_SCREENSHOTS"]) / f"{name}.png")


def test_the_keyboard_reaches_everything_in_order(opened: Open) -> None:
    page = opened("phone")
    page.focus(".skip")
    reached = ["skip"]
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "message"
    assert reached == ["skip", "model", "new", "show-settings", "show-metrics", "log", "message", "send"]
