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
from brokers import free_port
from faces import BOUND, eventually
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError
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

EVERYTHING = """\
# Title

Some *emphasis*, **more**, `code`, ~~mistakes~~, [a link](https://example.com).

1. one
   - nested

> quoted

```python
print("<b>")
```

| head | side |
| --- | --: |
| cell | wide |"""
MARKUP = "<img src=x onerror=\"document.title='run'\"><b>bold</b>"
WORDS = [f"word{number} " for number in range(1, 200)]
LONG = "".join(WORDS) + "end."


def answer(request: ReceivedRequest) -> Script:
    content = request.json["messages"][-1]["content"]
    match content if content in (EVERYTHING, MARKUP) else content.rpartition("\n\n")[2]:
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
        case "Be cut":
            return ["One, two", steps.finish("length"), steps.done()]
        case "Be empty":
            return [steps.role(), steps.finish(), steps.done()]
        case "Write Markdown":
            tail = ["\n\nThere are **two** rea", "sons. The ", "fir"]
            return ["# Why\n\n", *tail, steps.hang()]
        case "Call":
            calls = [
                steps.tool_call(id="call00001", name="days_until", arguments='{"day":"soon"}'),
                steps.tool_call(id="call00002", name="egg_timer", arguments='{"seconds":2}'),
            ]
            return ["I call.", *calls, steps.finish("tool_calls"), steps.done()]
        case "Wait":
            call = steps.tool_call(id="call00003", name="egg_timer", arguments='{"seconds":600}')
            return [call, steps.finish("tool_calls"), steps.done()]
        case prompt if prompt == MARKUP:
            return [steps.thinking(MARKUP), MARKUP, steps.finish(), steps.done()]
        case prompt if prompt == EVERYTHING:
            return [EVERYTHING, steps.finish(), steps.done()]
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


@pytest.fixture(scope="module")
def port() -> int:
    """The port of the model's server, which each test starts anew, since it must leave no socket."""
    return free_port()


@pytest.fixture(scope="module")
def url(port: int) -> Iterator[str]:
    with serving("web_chat/app.py", "--server-url", f"http://127.0.0.1:{port}") as url:
        yield url


@pytest.fixture
def service(port: int) -> Iterator[ScriptedServer]:
    with ScriptedServer(answer, port=port) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield browser
        browser.close()


Open: TypeAlias = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, url: str, service: ScriptedServer) -> Iterator[Open]:
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


@pytest.fixture(scope="module")
def unused_page(browser: Browser, url: str) -> Iterator[Page]:
    """A page for tests of its functions alone."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        yield page


def ask(page: Page, prompt: str) -> None:
    page.get_by_label("Your question").fill(prompt)
    page.get_by_role("button", name="Send").click()


def text(page: Page) -> Locator:
    """Returns the text of the last answer."""
    return page.get_by_role("article").last.locator(".answer").last


def asked(page: Page) -> Locator:
    return page.get_by_role("heading", level=2)


def sent(service: ScriptedServer) -> list[tuple[str, str]]:
    """Returns the role and the content of each message of the last request."""
    messages = service.requests[-1].json["messages"]
    return [(message["role"], message["content"]) for message in messages]


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
    expect(page.locator(".thinking .text")).to_have_text("Let me see.")
    expect(page).to_have_title("Count")
    expect(stop(page)).to_be_hidden()


def test_thoughts_are_open_until_the_text_begins_and_fold(page: Page) -> None:
    ask(page, "Say nothing")
    expect(stop(page)).to_be_visible()
    expect(page.locator("details")).to_have_count(0)
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
    stop(page).click()
    expect(page.get_by_role("mark")).to_have_count(0)
    expect(text(page)).to_have_text("It is here. And so is")


def test_arriving_sentence_is_highlighted_within_emphasis(page: Page) -> None:
    ask(page, "Write Markdown")
    expect(page.get_by_role("mark")).to_have_text("The fir")
    expect(text(page)).to_have_text("WhyThere are two reasons. The fir")
    expect(text(page).get_by_role("heading", name="Why", level=3)).to_be_visible()


def test_the_stop_button_stops_the_generation(page: Page, service: ScriptedServer) -> None:
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    stop(page).click()
    expect(status(page)).to_have_text("Stopped.")
    expect(text(page)).to_have_text("It is here. And so is")
    expect(page.get_by_role("article").get_by_text("Stopped.")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_empty()
    assert service.requests[0].wait_closed(BOUND)
    assert service.requests[0].cut


def test_error_is_shown_and_the_text_before_it_stays(page: Page) -> None:
    ask(page, "Break")
    wrong = page.get_by_role("article").get_by_role("alert")
    expect(wrong).to_contain_text("The answer is not complete: ")
    expect(wrong).to_contain_text("overloaded")
    expect(status(page)).to_have_text("Failed.")
    expect(text(page)).to_have_text("It was here. And then")
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    page.reload()
    expect(page.get_by_text("It was here. And then")).to_be_visible()
    expect(page.get_by_text("The answer is not complete: ")).to_be_visible()


def test_refusal_is_shown(page: Page) -> None:
    ask(page, "Refuse")
    wrong = page.get_by_role("article").get_by_role("alert")
    expect(wrong).to_contain_text("There is no answer: ")
    expect(wrong).to_contain_text("Unauthorized")


@pytest.mark.parametrize(
    ("prompt", "ending"),
    [
        ("Be cut", "The answer was cut: it reached the limit of its length."),
        ("Be empty", "The answer is empty."),
    ],
)
def test_ending_is_shown_if_it_is_not_the_usual_one(page: Page, prompt: str, ending: str) -> None:
    ask(page, prompt)
    expect(page.get_by_role("article").locator(".ending")).to_have_text(ending)


def test_expired_answer_is_reported(open_page: Open) -> None:
    page = open_page("#../nothing")
    expect(page.get_by_role("alert")).to_have_text("This conversation is no longer kept.")
    expect(stop(page)).to_be_hidden()


def test_markup_from_any_origin_is_shown_as_text(page: Page) -> None:
    ask(page, MARKUP)
    expect(status(page)).to_have_text("Complete.")
    expect(text(page)).to_have_text(MARKUP)
    expect(page.locator(".thinking .text")).to_have_text(MARKUP)
    expect(asked(page)).to_have_text(MARKUP)
    ask(page, "Break")
    expect(page.get_by_role("article").get_by_role("alert")).to_contain_text(MARKUP)
    expect(page.locator("b, img")).to_have_count(0)
    expect(page).to_have_title("Break")


# --- turns -----------------------------------------------------------------------


def test_question_is_sent_with_the_history(page: Page, service: ScriptedServer) -> None:
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    assert [role for role, _ in sent(service)] == ["user", "assistant", "user"]
    page.reload()
    expect(asked(page)).to_have_text(["Count", "Hang"])
    expect(text(page)).to_have_text("It is here. And so is")
    expect(status(page)).to_have_text("Answering…")
    stop(page).click()
    expect(status(page)).to_have_text("Stopped.")
    assert len(service.requests) == 2


def test_question_during_an_answer_stops_it(page: Page, service: ScriptedServer) -> None:
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    expect(page.get_by_role("article").first.get_by_text("Stopped.")).to_be_visible()
    assert service.requests[0].wait_closed(BOUND)
    assert sent(service)[1:] == [("assistant", "It is here. And so is"), ("user", "Count")]


def test_edited_question_replaces_later_turns(page: Page, service: ScriptedServer) -> None:
    for prompt in ("Count", "Count twice", "Count thrice"):
        ask(page, prompt)
        expect(asked(page).last).to_have_text(prompt)
        expect(status(page)).to_have_text("Complete.")
    page.get_by_role("button", name="Edit Count twice").click()
    prompt = page.get_by_label("Edit your question")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_value("Count twice")
    page.keyboard.type(" more")
    page.keyboard.press("Enter")
    expect(asked(page)).to_have_text(["Count", "Count twice more"])
    expect(page.get_by_label("Your question")).to_have_value("")
    expect(status(page)).to_have_text("Complete.")
    assert [content for role, content in sent(service) if role == "user"] == [
        "Count",
        "Count twice more",
    ]
    page.go_back()
    expect(asked(page)).to_have_text(["Count", "Count twice", "Count thrice"])


def test_first_question_is_edited_while_it_is_answered(page: Page, service: ScriptedServer) -> None:
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    page.get_by_role("button", name="Edit Hang").click()
    page.get_by_label("Edit your question").fill("Count")
    page.keyboard.press("Enter")
    expect(asked(page)).to_have_text(["Count"])
    expect(status(page)).to_have_text("Complete.")
    assert service.requests[0].wait_closed(BOUND / 6)  # earlier than a run without viewers
    assert sent(service) == [("user", "Count")]


@pytest.mark.parametrize("by_key", [True, False])
def test_cancelled_edit_restores_the_draft(page: Page, by_key: bool) -> None:
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    page.get_by_label("Your question").fill("a draft")
    edit = page.get_by_role("button", name="Edit Hang")
    edit.click()
    expect(page.get_by_label("Edit your question")).to_have_value("Hang")
    if by_key:
        page.keyboard.press("Escape")
    else:
        page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_label("Your question")).to_have_value("a draft")
    expect(edit).to_be_focused()
    expect(stop(page)).to_be_visible()  # Escape has stopped nothing


def test_new_conversation_begins_without_a_history(page: Page, service: ScriptedServer) -> None:
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    page.get_by_role("link", name="New conversation").click()
    expect(page.get_by_role("article")).to_have_count(0)
    expect(page.get_by_label("Your question")).to_be_focused()
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    assert sent(service) == [("user", "Hang")]


# --- tools -----------------------------------------------------------------------


def test_tool_calls_are_shown_with_their_results(page: Page) -> None:
    ask(page, "Call")
    failed, returned = page.locator("details.tool").nth(0), page.locator("details.tool").nth(1)
    expect(failed).to_contain_text("days_until failed.")
    expect(failed).to_contain_text('Arguments: {"day":"soon"}')
    expect(failed).to_contain_text("Reason: the arguments of days_until are invalid")
    expect(returned).to_contain_text("egg_timer is running: 2 s left")
    expect(status(page)).to_have_text("egg_timer is running: 2 s left")
    expect(returned).to_contain_text("egg_timer returned.")
    expect(returned).to_contain_text("Result: The time is over.")
    expect(status(page)).to_have_text("Complete.")
    expect(page.locator(".answer")).to_have_text(["I call.", "One, two. Three, four."])
    shown = page.get_by_role("article").inner_text()
    page.reload()
    expect(status(page)).to_have_text("Complete.")
    assert page.get_by_role("article").inner_text() == shown


def test_stop_ends_a_running_tool(page: Page, service: ScriptedServer) -> None:
    ask(page, "Wait")
    expect(status(page)).to_have_text("egg_timer is running…")
    page.keyboard.press("Escape")
    expect(status(page)).to_have_text("Stopped.")
    expect(page.locator("details.tool")).to_contain_text("egg_timer did not end.")
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    assert ("tool", "cancelled") in sent(service)


# --- Markdown --------------------------------------------------------------------


def rendered(page: Page, *pieces: str, is_open: bool = False) -> Any:
    """Returns the HTML of a Markdown text that arrives in these pieces."""
    return page.evaluate(
        """async ([pieces, isOpen]) => {
            const {Markdown} = await import("/markdown.js");
            const root = document.createElement("div");
            const markdown = new Markdown(root);
            for (const piece of pieces) {
                markdown.append(piece);
                markdown.render();
            }
            markdown.isOpen = isOpen;
            markdown.render();
            return root.innerHTML;
        }""",
        [pieces, is_open],
    )


LINK = '<a href="{0}" title="{0}" target="_blank" rel="noopener noreferrer">{1}</a>'


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# One\n###### Six #", "<h3>One</h3><h6>Six</h6>"),
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        ("*a* **b** ***c*** _d_ ~~e~~", "<p><em>a</em> <strong>b</strong> "
         "<strong><em>c</em></strong> <em>d</em> <del>e</del></p>"),
        ("2 * 3 * 4, snake_case_name, **open", "<p>2 * 3 * 4, snake_case_name, **open</p>"),
        ("`a*b*` ``c ` d`` \\*e\\*", "<p><code>a*b*</code> <code>c ` d</code> *e*</p>"),
        ("- a\n  - b\n\n    c\n- d", "<ul><li><p>a</p><ul><li><p>b</p><p>c</p></li></ul></li>"
         "<li><p>d</p></li></ul>"),
        ("3. a\n4. b\n- c", '<ol start="3"><li><p>a</p></li><li><p>b</p></li></ol>'
         "<ul><li><p>c</p></li></ul>"),
        ("born in\n1986. Then", "<p>born in\n1986. Then</p>"),
        ("> a\n> - b\n\n---", "<blockquote><p>a</p><ul><li><p>b</p></li></ul></blockquote><hr>"),
        ("[a *b*](https://c.d/e_(f) \"g\")", f'<p>{LINK.format("https://c.d/e_(f)", "a <em>b</em>")}</p>'),
        ("see https://c.d/e_f_g.", f'<p>see {LINK.format("https://c.d/e_f_g", "https://c.d/e_f_g")}.</p>'),
        ("![a](https://c.d/e.png)", f'<p>{LINK.format("https://c.d/e.png", "a")}</p>'),
        ("[](mailto:a@b.c) arr[0](x)", f'<p>{LINK.format("mailto:a@b.c", "mailto:a@b.c")} arr[0](x)</p>'),
        ("```py\n\tif a < b:\n~~~\n```\nend", '<pre tabindex="0" role="group" aria-label="Code py">'
         "<code>\tif a &lt; b:\n~~~</code></pre><p>end</p>"),
        ("1. a\n   ```\n   b\n     c\n   ```", '<ol start="1"><li><p>a</p><pre tabindex="0" role="group" '
         'aria-label="Code"><code>b\n  c</code></pre></li></ol>'),
        ("t:\n| a | b |\n|:-:|--:|\n| `c` | d\\|e |", '<p>t:</p><div tabindex="0" role="group" '
         'aria-label="Table" class="wide"><table><thead><tr><th class="center">a</th>'
         '<th class="right">b</th></tr></thead><tbody><tr><td class="center"><code>c</code></td>'
         '<td class="right">d|e</td></tr></tbody></table></div>'),
    ],
)  # fmt: skip
def test_markdown_becomes_elements(unused_page: Page, text: str, html: str) -> None:
    assert rendered(unused_page, text) == html


@pytest.mark.parametrize(
    "text",
    [
        "<script>document.title = 'run'</script>",
        "<img src=x onerror=\"document.title='run'\">",
        "- <b>a</b>\n\n> <i>b</i>\n\n# <u>c</u>\n\n| <s>d</s> |\n| - |\n| <p>e</p> |",
        "```<b>\n</code></pre><script>",
        "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](\tjavascript:alert(1))",
        "[a](java\tscript:alert(1)) [b](java\x00script:alert(1)) [c](\x01javascript:alert(1))",
        "[a](javascript&#58;alert(1)) [b](&#106;avascript:alert(1)) [c](java%0Ascript:alert(1))",
        "[a](data:text/html,<script>) [b](vbscript:x) [c](file:///etc/passwd) [d](/runs) [e](#id)",
        "[a](<javascript:alert(1)>) ![b](javascript:alert(1)) <javascript:alert(1)>",
        "[a](https://b.c\" onclick=\"document.title='run') [d](https://e.f/'><script>)",
    ],
)
def test_hostile_text_stays_text(unused_page: Page, text: str) -> None:
    allowed = {"blockquote", "code", "div", "em", "h3", "li", "ol", "p", "pre", "strong", "ul"}
    allowed |= {"table", "tbody", "td", "th", "thead", "tr"}
    for length in (*range(1, len(text)), None):
        html = rendered(unused_page, text[:length], is_open=length is not None)
        tags = re.findall(r"<(\w+)([^>]*)>", html)
        assert not {name for name, _ in tags} - allowed - {"a"}
        assert not re.search(r"\bon\w+=|style=|src=", "".join(attributes for _, attributes in tags))
        for name, attributes in tags:
            assert name != "a" or re.match(r' href="https?://', attributes)
    expect(unused_page).to_have_title("Ask a model")


@pytest.mark.parametrize("text", [EVERYTHING, "one\n```js`two\n\n> a\n1. b\n- - c\n| d\n| - | e"])
def test_markdown_is_the_same_wherever_it_is_cut(unused_page: Page, text: str) -> None:
    whole = rendered(unused_page, text)
    assert rendered(unused_page, *text) == whole
    for position in range(1, len(text)):
        assert rendered(unused_page, text[:position], text[position:]) == whole


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("This is **bo", "<p>This is <strong>bo</strong></p>"),
        ("This is **bold*", "<p>This is <strong>bold</strong></p>"),
        ("See [a](https://b", "<p>See a</p>"),
        ("Run `pip inst", "<p>Run <code>pip inst</code></p>"),
        ("a\n\n-", "<p>a</p>"),
        ("a\n\n``", "<p>a</p>"),
        (
            "```py\na =",
            '<pre tabindex="0" role="group" aria-label="Code py"><code>a =</code></pre>',
        ),
    ],
)
def test_unfinished_markup_is_not_seen(unused_page: Page, text: str, html: str) -> None:
    assert rendered(unused_page, text, is_open=True) == html


def test_elements_stay_while_text_arrives(unused_page: Page) -> None:
    kept = unused_page.evaluate(
        """async (text) => {
            const {Markdown} = await import("/markdown.js");
            const root = document.body.appendChild(document.createElement("div"));
            const markdown = new Markdown(root);
            const seen = new Set();
            for (const character of text) {
                markdown.append(character);
                markdown.render();
                for (const element of root.children) seen.add(element);
            }
            return [seen.size, root.children.length];
        }""",
        "# Title\n\nSome *emphasis* and text.\n\n1. one\n2. two\n\n```\ncode\n```\n\nThe end",
    )
    assert kept == [5, 5]


# --- the policy of the page ------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "refusal"),
    [
        ("document.body.innerHTML = '<img src=x>'", "TrustedHTML"),
        ("document.body.setAttribute('onclick', 'document.title = 1')", "TrustedScript"),
        ("fetch('http://127.0.0.1:9/')", "Failed to fetch"),
    ],
)
def test_policy_forbids_markup_and_other_sites(page: Page, script: str, refusal: str) -> None:
    with pytest.raises(PlaywrightError, match=refusal):
        page.evaluate(script)


# --- late, second and reconnecting pages -----------------------------------------


def test_second_tab_joins_late_and_shows_everything(page: Page, service: ScriptedServer) -> None:
    ask(page, "Hang")
    expect(text(page)).to_have_text("It is here. And so is")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open a second tab").click()
    late = opened.value
    expect(text(late)).to_have_text("It is here. And so is")
    expect(late.locator(".thinking .text")).to_have_text("Let me see.")
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
    assert sum(address.endswith("/events") for address in requested) == 2
    assert len(service.requests) == 1


def test_going_back_shows_the_answer_before(page: Page) -> None:
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    ask(page, "Break")
    expect(text(page)).to_have_text("It was here. And then")
    page.go_back()
    expect(asked(page)).to_have_text(["Count"])
    expect(text(page)).to_have_text("One, two. Three, four.")
    page.go_back()
    expect(page.get_by_role("article")).to_have_count(0)
    expect(page).to_have_title("Ask a model")


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
    for _ in range(5):
        keys.press("Shift+Tab")
        backwards.append(focused(page).split("-")[0])
    assert backwards == ["prompt", "stop", "link", "summary", "edit", "fresh"]
    keys.press("Tab")
    keys.press("Tab")
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


def test_turns_stay_if_the_server_cannot_be_reached(page: Page) -> None:
    for prompt in ("Count", "Count twice"):
        ask(page, prompt)
        expect(asked(page).last).to_have_text(prompt)
        expect(status(page)).to_have_text("Complete.")
    page.route("**/runs/*", lambda route: route.abort())
    page.go_back()
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    expect(asked(page)).to_have_text(["Count", "Count twice"])


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


def test_enter_within_a_composition_is_not_sent(page: Page, service: ScriptedServer) -> None:
    prompt = page.get_by_label("Your question")
    prompt.fill("Count")
    prompt.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    prompt.dispatch_event("keydown", {"key": "Enter", "keyCode": 229})
    expect(prompt).to_have_value("Count")
    prompt.press("Enter")
    expect(status(page)).to_have_text("Complete.")
    assert len(service.requests) == 1


def test_blank_question_is_not_sent(page: Page, service: ScriptedServer) -> None:
    ask(page, "  \n ")
    ask(page, "Count")
    expect(status(page)).to_have_text("Complete.")
    assert len(service.requests) == 1


def test_every_element_has_a_role_and_a_name(page: Page) -> None:
    ask(page, "Hang")
    expect(page.get_by_role("mark")).to_have_text("And so is")
    expect(page.locator("body")).to_match_aria_snapshot("""
        - banner:
          - heading "Ask a model" [level=1]
          - link "New conversation"
        - main:
          - article "Hang":
            - heading "Hang" [level=2]
            - button "Edit Hang": Edit
            - group: Thoughts
            - paragraph:
              - text: It is here.
              - mark: And so is
          - alert
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
    expect(spoken).to_have_text(["It is here."])
    expect(article).to_have_attribute("aria-busy", "true")
    assert article.evaluate("it => !it.closest('[aria-live], [role=log], [role=status]')")
    # Screen readers do not read a busy region.
    assert spoken.evaluate("it => !it.closest('[aria-busy]')")
    stop(page).click()
    expect(article).to_have_attribute("aria-busy", "false")
    expect(spoken).to_have_text(["It is here.", "And so is"])


def test_markup_is_not_read_out(page: Page) -> None:
    ask(page, "Write Markdown")
    spoken = page.get_by_role("log").locator("p")
    expect(spoken).to_have_text(["Why", "There are two reasons."])
    stop(page).click()
    expect(spoken).to_have_text(["Why", "There are two reasons.", "The fir"])


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
        found[it.className || it.id || it.localName] = (high + .05) / (low + .05);
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
    expect(page.locator("article .wrong")).to_contain_text("overloaded")
    ask(page, EVERYTHING)
    expect(status(page)).to_have_text("Complete.")
    page.get_by_role("button", name="Edit").last.click()
    contrasts |= page.evaluate(CONTRASTS)
    seen = {"asked", "edit", "summary", "text", "mark", "status", "link", "hint", "wrong"}
    seen |= {"h1", "label", "quiet", "send", "fresh", "ending"}
    assert contrasts.keys() >= seen | {"h3", "p", "em", "code", "td", "th", "a", "strong", "del"}
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
    expect(page.get_by_role("mark")).to_have_text("And so is")
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
