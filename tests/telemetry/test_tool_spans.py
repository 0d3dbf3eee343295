"""The spans of tool calls, and of the rounds of a run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from faces import BOUND, Face, eventually, run
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from traces import MESSAGES, Traces, attributes, parent_id, span_id

from rxmistral import Mistral, RunStream, ToolError
from rxmistral.testing import Script, ScriptedServer, steps

DONE: Script = ["Done.", steps.finish(), steps.done()]


def calls(*names: str) -> Script:
    return [
        *(
            steps.tool_call(id=f"call0000{n}", name=name, arguments="{}", index=n)
            for n, name in enumerate(names)
        ),
        steps.finish("tool_calls"),
        steps.done(),
    ]


class Tools:
    """Tools that create a span of their own."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self.begun = threading.Event()

    def plain(self) -> str:
        with self._tracer.start_as_current_span("below plain"):
            return "sunny"

    async def coroutine(self) -> str:
        await asyncio.sleep(0)
        with self._tracer.start_as_current_span("below coroutine"):
            return "sunny"

    async def generator(self) -> AsyncIterator[str]:
        yield "so far"
        with self._tracer.start_as_current_span("below generator"):
            yield "sunny"

    def failing(self) -> str:
        raise ToolError("a private reason")

    def raising(self) -> str:
        raise ZeroDivisionError("a private reason")

    async def endless(self) -> None:
        self.begun.set()
        await asyncio.Event().wait()


def ask(client: Mistral, tools: Tools, *names: str) -> RunStream:
    functions: list[Any] = [getattr(tools, name) for name in names]
    return client.chat.run(model="m", messages=MESSAGES, tools=functions)


@pytest.fixture
def tools(traces: Traces) -> Tools:
    return Tools(traces.tracer)


def test_rounds_and_tools_are_siblings(traces: Traces, tools: Tools, read: Face) -> None:
    names = ("plain", "coroutine", "generator")
    with (
        ScriptedServer(calls(*names), DONE) as server,
        traces.client(server) as client,
        traces.tracer.start_as_current_span("parent") as parent,
    ):
        read(ask(client, tools, *names))
    spans = {span.name: span for span in traces.spans("")}
    answers = traces.spans()
    executed = [spans[f"execute_tool {name}"] for name in names]
    assert {parent_id(span) for span in (*answers, *executed)} == {span_id(parent)}
    assert len(answers) == 2
    for number, name in enumerate(names):
        assert parent_id(spans[f"below {name}"]) == span_id(executed[number])
        assert executed[number].kind is SpanKind.INTERNAL
        assert executed[number].status.status_code is StatusCode.UNSET
        assert attributes(executed[number]) == {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": f"call0000{number}",
            "gen_ai.tool.type": "function",
        }


@pytest.mark.parametrize(
    ("name", "error_type"), [("failing", "ToolError"), ("raising", "ZeroDivisionError")]
)
def test_span_of_a_failed_tool_is_an_error(
    name: str, error_type: str, traces: Traces, tools: Tools, read: Face
) -> None:
    with ScriptedServer(calls(name), DONE) as server, traces.client(server) as client:
        read(ask(client, tools, name))
    (span,) = traces.spans("execute_tool")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert attributes(span)["error.type"] == error_type
    assert not span.events


def test_arguments_that_cannot_be_decoded_are_a_failure(traces: Traces) -> None:
    def weather(city: str) -> str:
        return city

    with ScriptedServer(calls("weather"), DONE) as server, traces.client(server) as client:
        client.chat.run(model="m", messages=MESSAGES, tools=[weather]).run()
    (span,) = traces.spans("execute_tool")
    assert attributes(span)["error.type"] == "ToolError"


def test_call_that_is_not_approved_has_no_span(traces: Traces, tools: Tools) -> None:
    with ScriptedServer(calls("plain", "unknown"), DONE) as server, traces.client(server) as client:
        functions: list[Any] = [tools.plain]
        client.chat.run(
            model="m", messages=MESSAGES, tools=functions, approve=lambda _: False
        ).run()
    assert traces.spans("execute_tool") == []


def test_span_of_a_cancelled_tool_ends_without_an_error(traces: Traces, tools: Tools) -> None:
    with ScriptedServer(calls("endless")) as server, traces.client(server) as client:
        subscription = ask(client, tools, "endless").subscribe()
        assert tools.begun.wait(BOUND)
        subscription.dispose()
    assert len(traces.wait_for_spans(1)) == 1
    (span,) = wait_for_tool(traces)
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in attributes(span)


def wait_for_tool(traces: Traces) -> Any:
    assert eventually(lambda: bool(traces.spans("execute_tool")))
    return traces.spans("execute_tool")


def test_program_keeps_its_span_after_a_run(traces: Traces, tools: Tools) -> None:
    async def read() -> None:
        with traces.tracer.start_as_current_span("parent") as parent:
            async for _ in ask(client, tools, "plain", "coroutine"):
                assert trace.get_current_span() is parent
            assert trace.get_current_span() is parent

    with (
        ScriptedServer(calls("plain", "coroutine"), DONE) as server,
        traces.client(server) as client,
    ):
        run(read())
