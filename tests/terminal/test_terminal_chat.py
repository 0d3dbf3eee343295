"""The chat, typed on a terminal of its own."""

from __future__ import annotations

import re
import sys
from threading import Event
from typing import Any

import pytest
from faces import BOUND
from ptys import COMMAND, Terminal

from rxmistral.testing import ScriptedServer, steps

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")

PROMPT = "> "
LEAVE = "Ctrl-C again leaves the chat.\n"


def without(module: str) -> list[str]:
    """Returns the command, in a Python without this module."""
    code = f"import sys; sys.modules[{module!r}] = None; from rxmistral.cli import main; "
    return [sys.executable, "-c", code + "sys.exit(main())"]


def script(*pieces: Any) -> list[Any]:
    return [steps.role(), *pieces, steps.finish(), steps.done()]


def chat(server: ScriptedServer, *arguments: str, **options: Any) -> Terminal:
    terminal = Terminal("--server-url", server.url, *arguments, **options)
    terminal.read_until(PROMPT)
    return terminal


def sent(server: ScriptedServer, number: int) -> list[tuple[str, str]]:
    """Returns the roles and texts of the messages of a request."""
    request = server.wait_for_requests(number + 1)[number]
    return [(each["role"], each["content"]) for each in request.json["messages"]]


def plain(shown: str) -> str:
    """Returns an output without escape sequences and carriage returns."""
    return re.sub(r"\x1b\[[?\d;]*[a-zA-Z]|\r", "", shown)


def test_second_request_contains_the_first_turn() -> None:
    with (
        ScriptedServer(script("Hel", "lo"), script("Bye")) as server,
        chat(server, "--system", "Be brief.", "--model", "big", "--temperature", "0.5") as terminal,
    ):
        terminal.enter("Hi")
        assert "Hello" in terminal.read_until(PROMPT)
        terminal.enter("And?")
        assert "Bye" in terminal.read_until(PROMPT)
        terminal.press("\x04")
        assert terminal.read_to_end()[1] == 0
    assert sent(server, 1) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "And?"),
    ]
    assert server.requests[1].json["model"] == "big"
    assert server.requests[1].json["temperature"] == 0.5


def test_ctrl_c_stops_the_answer_and_keeps_its_beginning() -> None:
    with (
        ScriptedServer(["One, two", steps.hang()], script("Three")) as server,
        chat(server) as terminal,
    ):
        terminal.enter("Count")
        terminal.read_until("One, two")
        terminal.press_ctrl_c()
        terminal.read_until(LEAVE)
        server.requests[0].wait_closed()
        terminal.read_until(PROMPT)
        terminal.enter("Go on")
        terminal.read_until("Three")
        assert sent(server, 1) == [
            ("user", "Count"), ("assistant", "One, two"), ("user", "Go on"),
        ]  # fmt: skip


def test_second_ctrl_c_after_a_stopped_answer_leaves() -> None:
    with ScriptedServer([steps.hang()]) as server, chat(server) as terminal:
        terminal.enter("Hi")
        server.wait_for_requests(1)
        terminal.press_ctrl_c()
        terminal.read_until(PROMPT)
        terminal.press_ctrl_c()
        assert terminal.read_to_end()[1] == 130


def test_second_ctrl_c_at_the_prompt_leaves() -> None:
    with ScriptedServer() as server, chat(server) as terminal:
        terminal.press_ctrl_c()
        terminal.read_until(LEAVE)
        terminal.read_until(PROMPT)
        terminal.press_ctrl_c()
        output, code = terminal.read_to_end()
    assert code == 130
    assert "Traceback" not in output


def test_ctrl_c_only_clears_a_line_with_text() -> None:
    with ScriptedServer(script("Hello")) as server, chat(server) as terminal:
        for typed in ("abc", "def"):
            terminal.press(typed)
            terminal.read_until(typed)
            terminal.press_ctrl_c()
            terminal.read_until(LEAVE)
            terminal.read_until(PROMPT)
        terminal.enter("Hi")
        terminal.read_until("Hello")
        assert sent(server, 0) == [("user", "Hi")]


def test_prompt_after_ctrl_c_needs_two_more_to_leave() -> None:
    with ScriptedServer(script("Hello")) as server, chat(server) as terminal:
        terminal.press_ctrl_c()
        terminal.read_until(PROMPT)
        terminal.enter("Hi")
        terminal.read_until("Hello")
        terminal.read_until(PROMPT)
        terminal.press_ctrl_c()
        terminal.read_until(LEAVE)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ([steps.status(503, body={"detail": "overloaded"})], "overloaded"),
        ([steps.status(401, body={"detail": "\x1b]0;owned\x07"})], "␛]0;owned␇"),
    ],
)
def test_error_is_one_line_and_the_chat_goes_on(broken: Any, expected: str) -> None:
    with ScriptedServer(broken, script("Hello")) as server, chat(server) as terminal:
        terminal.enter("Hi")
        shown = terminal.read_until(PROMPT)
        (line,) = [line for line in shown.splitlines() if "rxmistral: " in line]
        assert expected in line
        terminal.enter("Again")
        terminal.read_until("Hello")
        assert sent(server, 1) == [("user", "Hi\n\nAgain")]


def test_broken_answer_is_shown_before_its_error() -> None:
    with ScriptedServer(["Hel", steps.abort()]) as server, chat(server) as terminal:
        terminal.enter("Hi")
        assert re.search(r"Hel\n\nrxmistral: .*broke", plain(terminal.read_until(PROMPT)))


def test_backslash_continues_the_line() -> None:
    with ScriptedServer(script("Hello")) as server, chat(server) as terminal:
        terminal.enter("One\\")
        terminal.read_until("... ")
        terminal.enter("two")
        terminal.read_until("Hello")
        assert sent(server, 0) == [("user", "One\ntwo")]


def test_pasted_lines_are_one_prompt() -> None:
    with ScriptedServer(script("Hello")) as server, chat(server) as terminal:
        terminal.enter("\x1b[200~One\rtwo\x1b[201~")
        terminal.read_until("Hello")
        assert sent(server, 0) == [("user", "One\ntwo")]


def test_arrow_key_recalls_the_previous_prompt() -> None:
    with ScriptedServer(script("Hello"), script("Again")) as server, chat(server) as terminal:
        terminal.enter("\x1b[200~One\rtwo\x1b[201~")
        terminal.read_until("Hello")
        terminal.read_until(PROMPT)
        terminal.enter("\x1b[A")
        terminal.read_until("Again")
        assert sent(server, 1)[-1] == ("user", "One\ntwo")


def test_keys_during_an_answer_are_for_the_next_prompt() -> None:
    pressed = Event()

    def answer(_: object) -> list[Any]:
        pressed.wait(BOUND)
        return script("Hello")

    with ScriptedServer(answer, script("Bye")) as server, chat(server) as terminal:
        terminal.enter("Hi")
        server.wait_for_requests(1)
        terminal.enter("Next")
        pressed.set()
        assert "Next" not in terminal.read_until("Hello")
        terminal.read_until("Bye")
        assert sent(server, 1)[-1] == ("user", "Next")


def test_blank_prompt_is_not_sent() -> None:
    with ScriptedServer(script("Hello")) as server, chat(server) as terminal:
        for _ in range(2):
            terminal.enter(" ")
            terminal.read_until(PROMPT)
        terminal.enter("Hi")
        terminal.read_until("Hello")
        assert sent(server, 0) == [("user", "Hi")]


@pytest.mark.parametrize("command", [COMMAND, without("readline")])
def test_undecodable_prompt_is_one_line(command: list[str]) -> None:
    with ScriptedServer(script("Hello")) as server, chat(server, command=command) as terminal:
        terminal.press(b"caf\xff\r")
        shown = terminal.read_until(PROMPT)
        assert "rxmistral: stdin is not UTF-8 text: it has the byte 0xff\n" in shown
        terminal.enter("Hi")
        terminal.read_until("Hello")
        assert sent(server, 0) == [("user", "Hi")]


@pytest.mark.parametrize("command", [COMMAND, without("rich")])
def test_thinking_is_dim_and_ends_before_the_answer(command: list[str]) -> None:
    answer = script(steps.thinking("Hm"), steps.thinking("...\x1b[0m"), "Hello")
    with ScriptedServer(answer) as server, chat(server, command=command) as terminal:
        terminal.enter("Hi")
        shown = terminal.read_until("Hello")
    assert "\x1b[2mHm\x1b[22m\x1b[2m...␛[0m\x1b[22m\n\n" in shown


def test_stats_are_printed_after_each_answer() -> None:
    answer = ["Hello", steps.finish(usage=(3, 2)), steps.done()]
    with ScriptedServer(answer) as server, chat(server, "--stats") as terminal:
        terminal.enter("Hi")
        assert "\n2 tokens, 0." in terminal.read_until(PROMPT)


# --- Markdown ----------------------------------------------------------------------------

MARKDOWN = script("Some **bo", "ld** [red]te", "xt[/red]", "\x1b]0;owned\x07", "&#27;[2J\n")


def test_markdown_is_rendered_in_a_chat() -> None:
    with ScriptedServer(MARKDOWN) as server, chat(server) as terminal:
        terminal.enter("Hi")
        shown = terminal.read_until(PROMPT)
    assert "Some \x1b[1mbold\x1b[0m [red]text[/red]␛]0;owned␇\ufffd[2J\n" in shown


def test_markdown_of_a_single_answer_is_rendered() -> None:
    with (
        ScriptedServer(MARKDOWN) as server,
        Terminal("Hi", "--server-url", server.url) as terminal,
    ):
        shown, code = terminal.read_to_end()
    assert code == 0
    assert "Some \x1b[1mbold\x1b[0m [red]text[/red]␛]0;owned␇\ufffd[2J\n" in shown


@pytest.mark.parametrize(
    "options", [{"command": without("rich")}, {"TERM": "dumb"}, {"TERM": ""}], ids=str
)
def test_markdown_is_plain_text_when_it_cannot_be_rendered(options: dict[str, Any]) -> None:
    with ScriptedServer(MARKDOWN) as server, chat(server, **options) as terminal:
        terminal.enter("Hi")
        shown = terminal.read_until(PROMPT)
    assert "\nSome **bold** [red]text[/red]␛]0;owned␇&#27;[2J\n" in plain(shown)
    assert "\x1b[1m" not in shown


def test_no_color_leaves_colors_out() -> None:
    with (
        ScriptedServer(lambda _: script("`code`")) as server,
        Terminal("Hi", "--server-url", server.url) as colored,
        Terminal("Hi", "--server-url", server.url, NO_COLOR="1") as uncolored,
    ):
        assert re.search(r"\x1b\[[\d;]*3\d[;m]", colored.read_to_end()[0])
        assert not re.search(r"\x1b\[[\d;]*3\d[;m]", uncolored.read_to_end()[0])


# --- the command without a prompt --------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--json",), ()])
def test_no_chat_starts_without_two_terminals(arguments: tuple[str, ...]) -> None:
    command = COMMAND if arguments else ["/bin/sh", "-c", f"{' '.join(COMMAND)} | cat"]
    with Terminal(*arguments, command=command) as terminal:
        output, _ = terminal.read_to_end()
    assert "error: the following arguments are required: prompt" in output


def test_wrong_option_of_a_chat_exits_with_2() -> None:
    url = "http://127.0.0.1:9"
    with Terminal("--server-url", url, "--temperature", "nan") as terminal:
        output, code = terminal.read_to_end()
    assert code == 2
    assert output.startswith("rxmistral: ")
    assert len(output.splitlines()) == 1
