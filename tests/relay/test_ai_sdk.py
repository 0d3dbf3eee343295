"""What the real `ai` package, which is behind `useChat`, makes of our bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reactivex
from faces import BOUND
from runs import call, completion
from servers import serving_with

from rxmistral import (
    DroppedStreamError,
    Mistral,
    StoppedError,
    Stream,
    TextChunk,
    ThinkChunk,
)
from rxmistral.relay import UI_MESSAGE_HEADERS, ui_message_stream
from rxmistral.testing import Script, ScriptedServer, steps

HERE = Path(__file__).parent
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None or not (HERE / "node_modules" / "ai").exists(),
    reason="needs node 18 or newer, and the npm package ai: npm install --prefix tests/relay",
)


def node(*arguments: str, stdin: bytes = b"") -> dict[str, Any]:
    command = [NODE or "node", str(HERE / "read_ui_messages.mjs"), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=6 * BOUND)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def read(*items: Any, error: Exception | None = None, **arguments: Any) -> dict[str, Any]:
    """The parts that it found valid, the message they make, and the errors."""
    ending = reactivex.empty() if error is None else reactivex.throw(error)
    source = reactivex.concat(reactivex.of(*items), ending)
    body = b"".join(ui_message_stream(source, **arguments))
    result = node("parts", stdin=body)
    sent = [line for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    assert len(result["parts"]) == len(sent)
    return result


def parts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of the message, without the step they are in."""
    step, *others = result["message"]["parts"]
    assert step == {"type": "step-start"}
    return others


def text(content: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": content, "state": "done"}


def thinking(number: int, content: str) -> dict[str, Any]:
    return {**text(content, "reasoning"), "id": str(number)}


# --- what it reads ---------------------------------------------------------------


def test_text_in_any_language_comes_through() -> None:
    pieces = ["Hel", "lo, wörld\n\n", "data: no\r\n", "👩‍👩‍👧", "\u2028\u0000 ", "日本"]
    assert parts(read(*map(completion, pieces))) == [text("".join(pieces))]


def test_thinking_and_text_are_parts_in_order() -> None:
    thought = ThinkChunk(thinking=[TextChunk(text="Let me see")])
    result = read(completion([thought, TextChunk(text="Four")]), completion(".", finish="stop"))
    assert parts(result) == [thinking(1, "Let me see"), text("Four.")]


@pytest.mark.parametrize(
    "fragments",
    [['{"city": "Paris"}'], list('{"city": "Paris"}'), [{"city": "Paris"}]],
    ids=["whole", "in characters", "as an object"],
)
def test_a_tool_call_is_one_part_however_it_came(fragments: list[Any]) -> None:
    first, *others = fragments
    result = read(
        completion("I look.", call(first, "weather", "call9")),
        *(completion(None, call(each)) for each in others),
        completion(finish="tool_calls"),
    )
    said, tool = parts(result)
    assert said == text("I look.")
    assert tool["type"] == "tool-weather"
    assert tool["toolCallId"] == "call9"
    assert tool["state"] == "input-available"
    assert tool["input"] == {"city": "Paris"}


def test_interleaved_calls_are_parts_of_their_own() -> None:
    result = read(
        completion(None, call('{"a"', "f", "call1", 0)),
        completion(None, call('{"b"', "g", "call2", 1)),
        completion(None, call(":1}", index=0), call(":2}", index=1), finish="tool_calls"),
    )
    shown = [(part["type"], part["state"], part["input"]) for part in parts(result)]
    assert shown == [
        ("tool-f", "input-available", {"a": 1}),
        ("tool-g", "input-available", {"b": 2}),
    ]


def test_arguments_that_are_no_json_are_an_error_of_their_part() -> None:
    (tool,) = parts(read(completion(None, call("Paris!", "weather", "call9"), finish="stop")))
    assert tool["state"] == "output-error"
    assert tool["rawInput"] == "Paris!"
    assert "the arguments of weather" in tool["errorText"]


def test_an_error_in_the_middle_is_an_error_and_what_came_stands() -> None:
    result = read(completion("Hel"), error=DroppedStreamError("reset"))
    assert parts(result) == [text("Hel")]
    assert result["errors"] == ["the connection broke in the middle of the answer: reset"]


def test_an_answer_that_was_stopped_is_no_error() -> None:
    result = read(completion("Hel"), error=StoppedError())
    assert parts(result) == [text("Hel")]
    assert result["errors"] == []
    assert result["parts"][-1]["type"] == "abort"


def test_of_several_answers_it_is_shown_the_first() -> None:
    result = read(completion("one"), completion("other", choice=1), completion("!"))
    assert parts(result) == [text("one!")]


def test_the_message_has_the_id_it_was_given() -> None:
    assert read(completion("x"), message_id="m1")["message"]["id"] == "m1"


# --- a chat that asks a server ---------------------------------------------------


Chat = Callable[..., tuple[ScriptedServer, dict[str, Any]]]


@pytest.fixture(params=["flask", "starlette"])
def chat(request: pytest.FixtureRequest) -> Chat:
    """What the state of a chat is when it has asked a framework that asks a service."""
    serve = serving_with(request.param, UI_MESSAGE_HEADERS)

    def ask(script: Script, *arguments: str) -> tuple[ScriptedServer, dict[str, Any]]:
        with ScriptedServer(script) as service, Mistral(server_url=service.url) as client:
            messages = [{"role": "user", "content": "Hi"}]
            answer = client.chat.stream(model="m", messages=messages)
            with serve(lambda _: ui_message_stream(answer, heartbeat=0.02)) as port:
                state = node("chat", f"http://127.0.0.1:{port}/", *arguments)
                assert service.requests[0].wait_answered(BOUND)
            return service, state

    return ask


def test_a_chat_shows_the_answer_and_is_ready(chat: Chat) -> None:
    script = [
        steps.role(),
        steps.thinking("Hm."),
        steps.wait(0.1),  # heartbeats
        "Hel",
        "lo",
        steps.tool_call(id="call9", name="weather", arguments='{"city": "Par', index=0),
        steps.tool_call(name="", arguments='is"}', index=0, finish="tool_calls"),
        steps.done(),
    ]
    _, state = chat(script)
    assert state["status"] == "ready"
    assert state["error"] is None
    assert state["finish"]["finishReason"] == "tool-calls"
    *said, tool = parts(state)
    assert said == [thinking(1, "Hm."), text("Hello")]
    assert (tool["type"], tool["input"]) == ("tool-weather", {"city": "Paris"})


def test_a_chat_shows_an_error_in_the_middle(chat: Chat) -> None:
    _, state = chat(["Hel", steps.drop()])
    assert state["status"] == "error"
    assert state["error"].startswith("the connection broke in the middle of the answer")
    assert state["finish"]["isError"]
    assert parts(state) == [text("Hel")]


def test_a_chat_shows_an_error_before_the_first_token(chat: Chat) -> None:
    _, state = chat([steps.status(429, body={"message": "slow down"})])
    assert state["status"] == "error"
    assert "slow down" in state["error"]
    assert state["message"] is None


def test_a_chat_that_is_stopped_stops_the_generation(chat: Chat) -> None:
    service, state = chat([steps.role(), "Hel", steps.hang()], "-")
    assert service.requests[0].cut
    assert state["status"] == "ready"
    assert state["finish"]["isAbort"]
    assert parts(state)[0]["text"] == "Hel"


def test_an_answer_that_was_stopped_for_all_leaves_the_chat_ready() -> None:
    stopped = Stream.of(
        reactivex.concat(reactivex.of(completion("Hel")), reactivex.throw(StoppedError()))
    )
    with serving_with("starlette", UI_MESSAGE_HEADERS)(
        lambda _: ui_message_stream(stopped)
    ) as port:
        state = node("chat", f"http://127.0.0.1:{port}/")
    assert state["status"] == "ready"
    assert state["error"] is None
    assert parts(state) == [text("Hel")]
