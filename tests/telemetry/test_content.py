"""Prompts, answers and keys in spans: content only if asked for, and keys never."""

from __future__ import annotations

import json
from socketserver import StreamRequestHandler, TCPServer
from threading import Thread
from typing import Any

import pytest
from faces import Face
from traces import Traces, ask, attributes

from rxmistral import AssistantMessage, Mistral, SystemMessage, ToolMessage, UserMessage
from rxmistral.telemetry import OpenTelemetry
from rxmistral.telemetry.messages import input_messages
from rxmistral.testing import Script, ScriptedServer, steps

KEY = "a-key-of-twenty-letters"
VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
QUOTING: dict[str, Script] = {
    "whole": ["a private answer", steps.finish(), steps.done()],
    "refused": [steps.status(422, body={"detail": f"a private prompt, {KEY}"})],
    "reported": ["a private ", steps.error(f"after a private answer, {KEY}")],
    "not a chunk": ["a private ", steps.raw(b'data: {"a private answer\n\n')],
    "not an event stream": [steps.raw(b"a private answer\n")],
}


def export(traces: Traces, script: Script, read: Face, *, capture_content: bool) -> str:
    """Returns everything that the spans of an answer contain."""
    telemetry = traces.telemetry(capture_content=capture_content)
    with (
        ScriptedServer(script) as server,
        Mistral(KEY, server_url=server.url, telemetry=telemetry) as client,
    ):
        messages = [UserMessage(content="a private prompt")]
        read(client.chat.stream(model="m", messages=messages))
    return "".join(span.to_json() for span in traces.spans())


@pytest.mark.parametrize("name", QUOTING)
def test_content_is_left_out_by_default(name: str, traces: Traces, read: Face) -> None:
    exported = export(traces, QUOTING[name], read, capture_content=False)
    assert "chat m" in exported
    assert "private" not in exported
    assert KEY not in exported


@pytest.mark.parametrize("name", QUOTING)
def test_key_is_left_out_of_captured_content(name: str, traces: Traces) -> None:
    exported = export(traces, QUOTING[name], list_or_error, capture_content=True)
    assert "private prompt" in exported
    assert KEY not in exported


class _NotHTTP(StreamRequestHandler):
    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"a private answer\r\n")


def test_response_that_is_not_http_is_not_quoted(traces: Traces) -> None:
    with TCPServer(("127.0.0.1", 0), _NotHTTP) as server:
        Thread(target=server.handle_request).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with Mistral(server_url=url, telemetry=traces.telemetry()) as client:
            (error,) = list_or_error(ask(client))
    assert "private" in str(error)
    (span,) = traces.spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "RequestError"
    assert "private" not in span.to_json()


def list_or_error(stream: Any) -> list[Any]:
    try:
        return [*stream]
    except Exception as error:
        return [error]


def test_captured_error_has_its_text(traces: Traces) -> None:
    export(traces, QUOTING["reported"], list_or_error, capture_content=True)
    description = traces.spans()[0].status.description
    assert description is not None
    assert "after a private answer, [key]" in description


@pytest.mark.parametrize(
    ("value", "is_captured"),
    [
        ("SPAN_ONLY", True),
        ("span_and_event", True),
        ("True", True),
        ("EVENT_ONLY", False),
        ("no_content", False),
        ("", False),
    ],
)
def test_variable_decides_on_content(
    value: str, is_captured: bool, monkeypatch: pytest.MonkeyPatch, traces: Traces
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    exported = export(traces, QUOTING["whole"], list_or_error, capture_content=False)
    assert ("private" in exported) is is_captured
    assert f"capture_content={is_captured}" in repr(OpenTelemetry())


def test_messages_have_the_shape_of_the_conventions(traces: Traces) -> None:
    call = {"id": "call00001", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    script: Script = [
        steps.thinking("Hm, "),
        steps.thinking("so"),
        "It is ",
        "sunny.",
        steps.tool_call(id="call00002", name="weather", arguments='{"city": "Rome"}'),
        steps.finish("tool_calls"),
        steps.done(),
    ]
    with (
        ScriptedServer(script) as server,
        Mistral(server_url=server.url, telemetry=traces.telemetry(capture_content=True)) as client,
    ):
        image = {"type": "image_url", "image_url": "https://a.example/b.png"}
        client.chat.stream(
            model="m",
            messages=[
                SystemMessage(content="Be brief."),
                {"role": "user", "content": [{"type": "text", "text": "And here?"}, image]},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                ToolMessage(content="sunny", tool_call_id="call00001", name="weather"),
                AssistantMessage(content="I look", prefix=True),
            ],
        ).run()
    shown = attributes(traces.spans()[0])
    assert json.loads(shown["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "And here?"}, image]},
        {
            "role": "assistant",
            "parts": [
                {
                    "type": "tool_call",
                    "id": "call00001",
                    "name": "weather",
                    "arguments": {"city": "Paris"},
                }
            ],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "call00001", "response": "sunny"}],
        },
        {"role": "assistant", "parts": [{"type": "text", "content": "I look"}]},
    ]
    assert json.loads(shown["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm, so"},
                {"type": "text", "content": "It is sunny."},
                {
                    "type": "tool_call",
                    "id": "call00002",
                    "name": "weather",
                    "arguments": {"city": "Rome"},
                },
            ],
            "finish_reason": "tool_calls",
        }
    ]


def test_cut_answer_is_captured_as_far_as_it_arrived(traces: Traces) -> None:
    script: Script = [
        "Hel",
        steps.tool_call(id="call00001", name="weather", arguments='{"ci'),
        steps.drop(),
    ]
    export(traces, script, list_or_error, capture_content=True)
    (message,) = json.loads(attributes(traces.spans()[0])["gen_ai.output.messages"])
    call = {"type": "tool_call", "id": "call00001", "name": "weather", "arguments": '{"ci'}
    assert message["parts"] == [{"type": "text", "content": "Hel"}, call]
    assert message["finish_reason"] == "error"


def test_odd_messages_are_captured_as_they_are() -> None:
    odd = (
        b'[{"role":"user","content":[1,{"type":"thinking","thinking":[{"type":"x"}]}]},'
        b'{"role":"assistant","content":null,"tool_calls":["a",{"function":{"name":"f"}}]}]'
    )
    assert json.loads(input_messages(odd)) == [  # type: ignore[arg-type]
        {"role": "user", "parts": [1, {"type": "reasoning", "content": ""}]},
        {"role": "assistant", "parts": ["a", {"function": {"name": "f"}}]},
    ]
