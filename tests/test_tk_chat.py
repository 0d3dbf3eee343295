"""The window of examples/tk_chat.py, with real events, on a display of its own.

Each test runs a program in a process of its own: Tk must be freed by the thread that created
it, which garbage collection does not guarantee.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from faces import BOUND

from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

if find_spec("_tkinter") is None:
    pytest.skip("this Python has no tkinter (Debian: python3-tk)", allow_module_level=True)

EXAMPLE = Path(__file__).parent.parent / "examples" / "tk_chat.py"
BURST = 20_000


@pytest.fixture(scope="module")
def display() -> Iterator[dict[str, str]]:
    """Yields the environment of a process that can open a window."""
    if shutil.which("Xvfb"):
        read, write = os.pipe()
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24"]
        with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
            os.close(write)
            with open(read) as number:
                yield {**os.environ, "DISPLAY": f":{number.readline().strip()}"}
            server.terminate()
    elif os.environ.get("DISPLAY") or sys.platform in ("win32", "darwin"):
        yield {**os.environ}
    else:
        pytest.skip("neither a display nor Xvfb is available (Debian: xvfb)")


def answer(request: ReceivedRequest) -> Script:
    match request.json["messages"][-1]["content"]:
        case "hang":
            return [steps.role(), "Hel", steps.hang()]
        case "burst":
            return [steps.role(), steps.text(*["word "] * BURST), steps.hang()]
        case "break":
            return [steps.role(), "Hel", steps.drop()]
        case _:
            return [steps.role(), "One,", " two.", steps.finish(), steps.done()]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer) as server:
        yield server


PREFACE = f"""
import runpy, sys, time
from rxmistral import Mistral

client = Mistral(server_url=sys.argv[1])
chat = runpy.run_path({str(EXAMPLE)!r})["Chat"](client)
chat.root.update()
chat.entry.focus_force()

def until(condition):
    deadline = time.monotonic() + {BOUND}
    while not condition():
        assert time.monotonic() < deadline, (status(), shown()[-200:])
        chat.root.update()
        time.sleep(0.001)

def type_in(words):
    for letter in words:
        chat.root.event_generate("<Key>", keysym=letter)
        chat.root.update()

def press(key):
    chat.root.event_generate(key)
    chat.root.update()

def status(): return chat.status.cget("text")
def shown(): return chat.area.get("1.0", "end-1c")
"""


def run(program: str, display: dict[str, str], server: ScriptedServer) -> None:
    code = PREFACE + textwrap.dedent(program) + "\nchat.close()\n"
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, server.url],
        env=display,
        capture_output=True,
        text=True,
        timeout=2 * BOUND,
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_enter_sends_the_prompt_and_the_answer_is_shown(
    display: dict[str, str], server: ScriptedServer
) -> None:
    program = """
        type_in("count")
        press("<Return>")
        until(lambda: status() == "completed")
        assert shown() == "count\\nOne, two.\\n"
        assert chat.button.cget("text") == "Send"
        assert chat.entry.get() == ""
    """
    run(program, display, server)


def test_next_prompt_is_sent_with_the_conversation_so_far(
    display: dict[str, str], server: ScriptedServer
) -> None:
    program = """
        for prompt in ("count", "again"):
            type_in(prompt)
            press("<Return>")
            until(lambda: status() == "completed")
        assert shown() == "count\\nOne, two.\\nagain\\nOne, two.\\n"
    """
    run(program, display, server)
    contents = [message["content"] for message in server.requests[1].json["messages"]]
    assert contents == ["count", "One, two.", "again"]


@pytest.mark.parametrize("stop", ['press("<Escape>")', "chat.button.invoke()"])
def test_escape_and_button_stop_the_answer_and_keep_its_text(
    stop: str, display: dict[str, str], server: ScriptedServer
) -> None:
    program = f"""
        type_in("hang")
        press("<Return>")
        until(lambda: "Hel" in shown())
        assert status().startswith("Answering")
        assert chat.button.cget("text") == "Stop"
        {stop}
        until(lambda: status() == "cancelled")
        assert shown() == "hang\\nHel\\n"
        type_in("count")
        press("<Return>")
        until(lambda: status() == "completed")
    """
    run(program, display, server)
    assert server.requests[0].wait_closed(BOUND)


def test_status_shows_how_the_answer_broke(display: dict[str, str], server: ScriptedServer) -> None:
    program = """
        type_in("break")
        press("<Return>")
        until(lambda: status().startswith("dropped: the connection broke"))
        assert shown() == "break\\nHel\\n"
    """
    run(program, display, server)


def test_typing_works_during_a_burst_and_no_word_is_lost(
    display: dict[str, str], server: ScriptedServer
) -> None:
    program = f"""
        type_in("burst")
        press("<Return>")
        until(lambda: "word" in shown())
        type_in("next")  # the window handles each key although the answer never ends
        assert chat.entry.get() == "next"
        press("<Return>")  # has no effect during an answer
        assert chat.entry.get() == "next"
        until(lambda: shown().count("word") == {BURST})
        assert chat.area.yview()[1] == 1.0
        press("<Escape>")
        until(lambda: status() == "cancelled")
    """
    run(program, display, server)
    assert len(server.requests) == 1


def test_closing_the_window_stops_the_answer(
    display: dict[str, str], server: ScriptedServer
) -> None:
    program = """
        type_in("hang")
        press("<Return>")
        until(lambda: "Hel" in shown())
    """
    run(program, display, server)  # run() appends close()
    assert server.requests[0].wait_closed(BOUND)


def test_demo_server_answers_in_the_window_without_a_key(display: dict[str, str]) -> None:
    code = f"""
        import runpy, tkinter
        from tkinter import ttk

        def main(root):
            (frame,) = root.winfo_children()
            children = {{type(child): child for child in frame.winfo_children()}}
            children[ttk.Entry].focus_force()
            root.update()
            root.event_generate("<Key>", keysym="x")
            root.event_generate("<Return>")
            while "demo server" not in children[tkinter.Text].get("1.0", "end"):
                root.update()
            root.tk.eval(root.protocol("WM_DELETE_WINDOW"))

        tkinter.Tk.mainloop = main
        runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
    """
    environment = {name: value for name, value in display.items() if name != "MISTRAL_API_KEY"}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * BOUND,
    )
    assert (process.returncode, process.stderr) == (0, "")
