"""The chat page of the examples, in a real browser.

The tests of its server that need no browser are in test_serving_examples.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from urllib.request import urlopen

import pytest
from faces import BOUND, eventually
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright
from test_serving_examples import serving

from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
if BROWSER is None:
    pytest.skip("there is no browser: apt-get install chromium", allow_module_level=True)

SWITCHES = [
    "--no-sandbox",  # the sandbox does not run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=BOUND * 1000)

MARKUP = "<img src=x onerror=\"document.title='run'\"><b>bold</b>"
WORDS = [f"word{number} " for number in range(1, 200)]
LONG = "".join(WORDS) + "end."


def answer(request: ReceivedRequest) -> Script:
    match request.json["messages"][-1]["content"]:
        case "Hang":
            thoughts = steps.thinking("Let me", " see.")
            return [steps.role(), thoughts, "It is here. ", "And so ", "is", steps.hang()]
        case "Say nothing":
            return [steps.role(), steps.hang()]
        case "Be long":
            paced = [step for word in WORDS for step in (word, steps.wait(0.005))]
            return [*paced, "end.", steps.finish(), steps.done()]
        case "Break":
            return ["It was here. ", "And then", steps.error(f"overloaded {MARKUP}")]
        case "Refuse":
            return [steps.status(401, body={"message": "Unauthorized"})]
        case prompt if prompt == MARKUP:
            return [steps.thinking(MARKUP), MARKUP, steps.finish(), steps.done()]
        case _:
            return [
                steps.thinking("Let me", " see."),
                "One, ",
                "two. ",
                "Three",
                ", four.",
                steps.finish(),
                steps.done(),
            ]


# --- fixtures --------------------------------------------------------------------


@pytest.fixture
def service() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer) as server:
        yield server


@pytest.fixture
def url(service: ScriptedServer) -> Iterator[str]:
    with serving("web_chat/app.py", "--server-url", service.url) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield browser
        browser.close()


Open: TypeAlias = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Open]:
    """Opens a page in a new browser context with these features; its scripts must not raise."""
    contexts, raised = [], []

    def open_page(address: str = "", **features: Any) -> Page:
        context = browser.new_context(**features)
        contexts.append(context)
        context.on("weberror", lambda error: raised.append(error.error))
        page = context.new_page()
        page.goto(f"{url}/{address}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not raised


@pytest.fixture
def page(open_page: Open) -> Page:
    page = open_page()
    expect(page.get_by_label("Your question")).to_be_focused()
    return page


def ask(page: Page, prompt: str) -> None:
    page.get_by_label("Your question").fill(prompt)
    page.get_by_role("button", name="Send").click()


def text(page: Page) -> Locator:
    return page.get_by_role("article").locator(".text").last


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def stop(page: Page) -> Locator:
    return page.get_by_role("button", name="Stop")


# --- answers and endings ---------------------------------------------------------


def test_thinking_and_text_arrive(page: Page) -> None:
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    expect(page.get_by_role("heading", name="Count")).to_be_visible()
    expect(text(page)).to_have_text("One, two. Three, four.")
    expect(page.locator("#thoughts")).to_have_text("Let me see.")
    expect(page).to_have_title("Count")
    expect(stop(page)).to_be_hidden()


def test_thoughts_are_open_until_the_text_begins_and_fold(page: Page) -> None:
    ask(page, "Say nothing")
    expect(page.locator("details")).to_be_hidden()
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    thoughts = page.get_by_text("Let me see.")
    expect(thoughts).to_be_hidden()
    page.get_by_text("Thoughts").click()
    expect(thoughts).to_be_visible()
    page.get_by_text("Thoughts").click()
    expect(thoughts).to_be_hidden()


def test_the_sentence_that_arrives_is_highlighted(page: Page) -> None:
    ask(page, "Hang")
    expect(page.get_by_role("mark")).to_have_text("And so is")
    expect(page.locator(".sentence")).to_have_text(["It is here. "])
    stop(page).click()
    expect(page.get_by_role("mark")).to_be_empty()
    expect(page.locator(".sentence")).to_have_text(["It is here. ", "And so is"])


def test_the_stop_button_stops_the_generation(page: Page, service: ScriptedServer) -> None:
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    stop(page).click()
    expect(status(page)).to_have_text("Stopped.")
    expect(text(page)).to_have_text("It is here. And so is")
    expect(page.get_by_role("alert")).to_be_empty()
    assert service.requests[0].wait_closed(BOUND)
    assert service.requests[0].cut


def test_error_is_shown_and_the_text_before_it_stays(page: Page) -> None:
    ask(page, "Break")
    expect(page.get_by_role("alert")).to_contain_text("The answer is not complete: ")
    expect(page.get_by_role("alert")).to_contain_text("overloaded")
    expect(status(page)).to_have_text("Failed.")
    expect(text(page)).to_have_text("It was here. And then")
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    expect(page.get_by_role("alert")).to_be_empty()


def test_refusal_is_shown(page: Page) -> None:
    ask(page, "Refuse")
    expect(page.get_by_role("alert")).to_contain_text("There is no answer: ")
    expect(page.get_by_role("alert")).to_contain_text("Unauthorized")


def test_expired_answer_is_reported(open_page: Open) -> None:
    page = open_page("#../nothing")
    expect(page.get_by_role("alert")).to_have_text("This answer is not kept any more.")
    expect(stop(page)).to_be_hidden()


def test_markup_from_any_origin_is_shown_as_text(page: Page) -> None:
    ask(page, MARKUP)
    expect(status(page)).to_have_text("Complete.")
    expect(text(page)).to_have_text(MARKUP)
    expect(page.locator("#thoughts")).to_have_text(MARKUP)
    expect(page.locator("#asked")).to_have_text(MARKUP)
    ask(page, "Break")
    expect(page.get_by_role("alert")).to_contain_text(MARKUP)
    expect(page.locator("b, img")).to_have_count(0)
    expect(page).to_have_title("Break")


# --- late, second and reconnecting pages -----------------------------------------


def test_second_tab_joins_late_and_shows_everything(page: Page, service: ScriptedServer) -> None:
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open a second tab").click()
    late = opened.value
    expect(text(late)).to_have_text("It is here. And so is")
    expect(late.locator("#thoughts")).to_have_text("Let me see.")
    expect(late.get_by_role("heading", name="Hang")).to_be_visible()
    page.close()  # leaving does not stop the run
    stop(late).click()
    expect(status(late)).to_have_text("Stopped.")
    assert len(service.requests) == 1


def test_one_tab_stops_for_all(page: Page) -> None:
    ask(page, "Say nothing")
    expect(stop(page)).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    stop(other).click()
    expect(status(page)).to_have_text("Stopped.")
    expect(status(other)).to_have_text("Stopped.")


def test_reload_shows_each_word_once(page: Page, service: ScriptedServer) -> None:
    ask(page, "Be long")
    expect(text(page)).to_contain_text("word30 ")
    page.reload()
    expect(status(page)).to_have_text("Complete.")
    expect(text(page)).to_have_text(LONG)
    assert len(service.requests) == 1


def test_broken_connection_resumes_and_shows_each_word_once(
    page: Page, url: str, service: ScriptedServer
) -> None:
    """The browser receives the first part of the events, and requests the others itself."""
    requested: list[str] = []

    def send_first_part(route: Route) -> None:
        with urlopen(route.request.url, timeout=BOUND) as response:
            lines = iter(response.readline, b"id: 60\n")
            first = b"retry: 1\n\n" + b"".join(lines)
        route.fulfill(body=first, content_type="text/event-stream")

    page.route("**/events", send_first_part, times=1)
    page.on("request", lambda request: requested.append(request.url))
    ask(page, "Be long")
    expect(status(page)).to_have_text("Complete.")
    expect(text(page)).to_have_text(LONG)
    assert [address.endswith("/events") for address in requested] == [False, True, True]
    assert len(service.requests) == 1


def test_going_back_shows_the_answer_before(page: Page) -> None:
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    ask(page, "Break")
    expect(text(page)).to_have_text("It was here. And then")
    page.go_back()
    expect(text(page)).to_have_text("One, two. Three, four.")
    page.go_back()
    expect(page.get_by_role("article")).to_be_hidden()


# --- accessibility ---------------------------------------------------------------


def focused(page: Page) -> str:
    """Returns the id or tag of the focused element, which must have a visible outline."""
    element = page.locator(":focus")
    assert element.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    return element.evaluate("({id, localName}) => id || localName")


def test_the_keyboard_is_enough(page: Page) -> None:
    keys = page.keyboard
    assert focused(page) == "prompt"
    keys.type("Hang")
    keys.press("Enter")
    expect(text(page)).to_have_text("It is here. And so is")
    expect(page.get_by_label("Your question")).to_have_value("")
    backwards = [focused(page)]
    for _ in range(3):
        keys.press("Shift+Tab")
        backwards.append(focused(page))
    assert backwards == ["prompt", "stop", "link", "summary"]
    keys.press("Enter")
    expect(page.get_by_text("Let me see.")).to_be_visible()
    keys.press("Escape")
    expect(status(page)).to_have_text("Stopped.")


def test_enter_twice_asks_once(page: Page, service: ScriptedServer) -> None:
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.method))
    page.get_by_label("Your question").fill("Count")
    page.evaluate("for (const _ of [1, 2]) document.getElementById('form').requestSubmit()")
    expect(status(page)).to_have_text("Complete.")
    assert posted.count("POST") == len(service.requests) == 1


def test_question_that_cannot_be_sent_stays_in_the_field(page: Page) -> None:
    page.route("**/runs", lambda route: route.abort())
    ask(page, "Count")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    expect(page.get_by_label("Your question")).to_have_value("Count")


def test_focus_moves_to_the_prompt_when_its_button_is_hidden(page: Page) -> None:
    ask(page, "Hang")
    expect(stop(page)).to_be_visible()
    stop(page).focus()
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Stopped.")
    expect(page.get_by_label("Your question")).to_be_focused()


def test_shift_enter_begins_a_line(page: Page, service: ScriptedServer) -> None:
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(page.get_by_label("Your question")).to_have_value("one\ntwo")
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Complete.")
    assert service.requests[0].json["messages"][0]["content"] == "one\ntwo"


def test_blank_question_is_not_sent(page: Page, service: ScriptedServer) -> None:
    ask(page, "  \n ")
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    assert len(service.requests) == 1


def test_every_element_has_a_role_and_a_name(page: Page) -> None:
    ask(page, "Hang")
    expect(page.get_by_role("mark")).to_have_text("And so is")
    expect(page.locator("body")).to_match_aria_snapshot("""
        - heading "Ask a model" [level=1]
        - main:
          - article "Hang":
            - heading "Hang" [level=2]
            - group: Thoughts
            - paragraph:
              - text: It is here.
              - mark: And so is
          - log "The answer, sentence by sentence":
            - paragraph: It is here.
        - status: Answering…
        - link "Open a second tab"
        - button "Stop"
        - text: Your question Enter sends it, Escape stops the answer.
        - textbox "Your question"
        - button "Send"
    """)
    prompt = page.get_by_label("Your question")
    expect(prompt).to_have_accessible_description("Enter sends it, Escape stops the answer.")


def test_sentences_are_read_out_and_tokens_are_not(page: Page) -> None:
    ask(page, "Hang")
    expect(page.get_by_role("mark")).to_have_text("And so is")
    article, spoken = page.get_by_role("article"), page.get_by_role("log").locator("p")
    expect(spoken).to_have_text(["It is here. "])
    expect(article).to_have_attribute("aria-busy", "true")
    assert article.evaluate("it => !it.closest('[aria-live], [role=log], [role=status]')")
    # Screen readers do not read a busy region.
    assert spoken.evaluate("it => !it.closest('[aria-busy]')")
    stop(page).click()
    expect(article).to_have_attribute("aria-busy", "false")
    expect(spoken).to_have_text(["It is here. ", "And so is"])


CONTRASTS = """() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => channels(color).slice(0, 3)
        .map((c) => c / 255).map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [.2126, .7152, .0722][at], 0);
    const ground = (it) => {
        const color = getComputedStyle(it).backgroundColor;
        return channels(color)[3] === 0 ? ground(it.parentElement) : color;
    };
    const found = {};
    for (const it of document.querySelectorAll("body *")) {
        const holds = [...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!holds || !it.checkVisibility() || it.localName === "script") continue;
        const [low, high] = [getComputedStyle(it).color, ground(it)].map(luminance).sort((a, b) => a - b);
        found[it.id || it.className || it.localName] = (high + .05) / (low + .05);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(open_page: Open, scheme: str) -> None:
    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    ask(page, "Hang")
    expect(page.get_by_role("mark")).to_have_text("And so is")
    page.get_by_text("Thoughts").click()
    contrasts = page.evaluate(CONTRASTS)
    ask(page, "Break")
    expect(page.get_by_role("alert")).to_contain_text("overloaded")
    contrasts |= page.evaluate(CONTRASTS)
    seen = {"asked", "summary", "thoughts", "sentence", "arriving", "status", "link", "hint"}
    assert contrasts.keys() >= seen | {"h1", "label", "stop", "send", "wrong"}
    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


def test_colors_follow_the_color_scheme(open_page: Open) -> None:
    grounds = {
        scheme: open_page(color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    brightness = {name: sum(map(int, re.findall(r"\d+", it))) for name, it in grounds.items()}
    assert brightness["light"] > 3 * 220
    assert brightness["dark"] < 3 * 40


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_animations_follow_the_motion_preference(open_page: Open, motion: str, moves: bool) -> None:
    page = open_page(reduced_motion=motion)
    ask(page, "Hang")
    expect(page.locator(".sentence")).to_have_count(1)
    assert page.evaluate("document.getAnimations().length > 0") is moves


PHONE = {"width": 320, "height": 480}


def test_long_answer_is_followed_to_its_end_on_a_phone(open_page: Open) -> None:
    page = open_page(viewport=PHONE)
    ask(page, "Be long")
    expect(status(page)).to_have_text("Complete.")
    assert page.evaluate("scrollY") > 100
    assert page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 1")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_late_page_begins_at_the_top(page: Page, open_page: Open) -> None:
    ask(page, "Be long")
    expect(status(page)).to_have_text("Complete.")
    late = open_page(page.url.rpartition("/")[2], viewport=PHONE)
    expect(status(late)).to_have_text("Complete.")
    expect(late.get_by_role("heading", name="Be long")).to_be_in_viewport()


def test_page_stays_when_the_reader_scrolls_up(open_page: Open) -> None:
    page = open_page(viewport=PHONE)
    ask(page, "Be long")
    assert eventually(lambda: page.evaluate("scrollY") > 100)
    page.mouse.move(100, 100)

    def scrolls_up() -> bool:
        page.mouse.wheel(0, -5000)  # text that arrives at the same moment may scroll down first
        return bool(page.evaluate("scrollY") == 0)

    assert eventually(scrolls_up)
    expect(status(page)).to_have_text("Complete.")
    assert page.evaluate("scrollY") == 0
