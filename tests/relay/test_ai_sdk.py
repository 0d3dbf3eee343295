"""How the npm package `ai`, which implements `useChat`, reads UI message streams."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reactivex
from completion_builders import call, completion
from faces import BOUND
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
    """Returns the parts that the package found valid, their message, and the errors."""
    ending = reactivex.empty() if error is None else reactivex.throw(error)
    source = reactivex.concat(reactivex.of(*items), ending)
    body = b"".join(ui_message_stream(source, **arguments))
    result = node("parts", stdin=body)
    sent = [line for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    assert len(result["parts"]) == len(sent)
    return result


def parts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the parts of the message without the step that contains them."""
    step, *others = result["message"]["parts"]
    assert step == {"type": "step-start"}
    return others


def text(content: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": content, "state": "done"}


def thinking(number: int, content: str) -> dict[str, Any]:
    return {**text(content, "reasoning"), "id": str(number)}


# --- reading a stream ------------------------------------------------------------


def test_text_in_any_language_is_read_unchanged() -> None:
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
def test_tool_call_is_one_part_however_it_is_split(fragments: list[Any]) -> None:
    first, *others = fragments
    result = read(
        completion("I look.", call(first, "weather", "call9")),
        *(completion(None, call(each)) for each in others),
        completion(finish="tool_calls"),
    )
    spoken, tool = parts(result)
    assert spoken == text("I look.")
    assert tool["type"] == "tool-weather"
    assert tool["toolCallId"] == "call9"
    assert tool["state"] == "input-available"
    assert tool["input"] == {"city": "Paris"}


def test_interleaved_calls_are_separate_parts() -> None:
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


def test_arguments_that_are_not_json_are_an_error_of_their_part() -> None:
    (tool,) = parts(read(completion(None, call("Paris!", "weather", "call9"), finish="stop")))
    assert tool["state"] == "output-error"
    assert tool["rawInput"] == "Paris!"
    assert "the arguments of weather" in tool["errorText"]


def test_error_keeps_the_text_before_it() -> None:
    result = read(completion("Hel"), error=DroppedStreamError("reset"))
    assert parts(result) == [text("Hel")]
    assert result["errors"] == [str(DroppedStreamError("reset"))]


def test_stopped_answer_is_aborted_without_an_error() -> None:
    result = read(completion("Hel"), error=StoppedError())
    assert parts(result) == [text("Hel")]
    assert result["errors"] == []
    assert result["parts"][-1]["type"] == "abort"


def test_first_of_several_answers_is_shown() -> None:
    result = read(completion("one"), completion("other", choice=1), completion("!"))
    assert parts(result) == [text("one!")]


def test_message_has_the_given_id() -> None:
    assert read(completion("x"), message_id="m1")["message"]["id"] == "m1"


# --- a chat with a server --------------------------------------------------------


Chat = Callable[..., tuple[ScriptedServer, dict[str, Any]]]


@pytest.fixture(params=["flask", "starlette"])
def chat(request: pytest.FixtureRequest) -> Chat:
    """Returns the state of a chat after an answer that a framework has relayed."""
    serve = serving_with(request.param, UI_MESSAGE_HEADERS)

    def ask(script: Script, mode: str = "chat") -> tuple[ScriptedServer, dict[str, Any]]:
        with ScriptedServer(script) as service, Mistral(server_url=service.url) as client:
            messages = [{"role": "user", "content": "Hi"}]
            answer = client.chat.stream(model="m", messages=messages)
            with serve(lambda _: ui_message_stream(answer, heartbeat=0.02)) as port:
                state = node(mode, f"http://127.0.0.1:{port}/")
                assert service.requests[0].wait_answered(BOUND)
            return service, state

    return ask


def test_chat_shows_the_answer_and_is_ready(chat: Chat) -> None:
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
    *spoken, tool = parts(state)
    assert spoken == [thinking(1, "Hm."), text("Hello")]
    assert (tool["type"], tool["input"]) == ("tool-weather", {"city": "Paris"})


def test_chat_shows_an_error_in_the_middle(chat: Chat) -> None:
    _, state = chat(["Hel", steps.drop()])
    assert state["status"] == "error"
    assert state["error"].startswith("the connection broke in the middle of the answer")
    assert state["finish"]["isError"]
    assert parts(state) == [text("Hel")]


def test_chat_shows_an_error_before_the_first_token(chat: Chat) -> None:
    _, state = chat([steps.status(429, body={"message": "slow down"})])
    assert state["status"] == "error"
    assert "slow down" in state["error"]
    assert state["message"] is None


def test_generation_stops_when_the_chat_is_stopped(chat: Chat) -> None:
    service, state = chat([steps.role(), "Hel", steps.hang()], "stop")
    assert service.requests[0].cut
    assert state["status"] == "ready"
    assert state["finish"]["isAbort"]
    assert parts(state)[0]["text"] == "Hel"


def test_chat_is_ready_when_the_answer_was_stopped_for_all() -> None:
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


def test_resuming_page_shows_the_whole_answer() -> None:
    run = Stream.of(reactivex.of(completion("Hel"), completion("lo", finish="stop"))).shared()
    run.run()
    serve = serving_with("starlette", UI_MESSAGE_HEADERS)
    with serve(lambda _: ui_message_stream(run)) as port:
        state = node("resume", f"http://127.0.0.1:{port}/")
    assert state["status"] == "ready"
    assert parts(state) == [text("Hello")]
