"""Runs: answers and tool calls in rounds, over a scripted server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, eventually, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairing import problems
from reactivex import operators as ops
from reactivex.disposable import Disposable

from rxmistral import (
    AnswerEnded,
    Mistral,
    Part,
    ReportedError,
    Retry,
    RoundEnded,
    RoundLimitError,
    RunStream,
    TextDelta,
    Tool,
    ToolCall,
    ToolError,
    ToolFailed,
    ToolProgress,
    ToolReturned,
    UserMessage,
    tool,
)
from rxmistral.chat.event_stream import EventStream
from rxmistral.models import Function
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

ASKED = [UserMessage(content="hi")]
DECLARED = Tool(function=Function(name="declared", parameters={}))
variable: ContextVar[str] = ContextVar("variable", default="")

Calls = list[tuple[str, str]]  # names and arguments


def calls_of(round_number: int, calls: Calls) -> Script:
    script: list[Any] = ["Let me see."]
    for index, (name, arguments) in enumerate(calls):
        call_id = f"call{round_number:03d}{index:02d}"
        script.append(steps.tool_call(id=call_id, name=name, arguments=arguments, index=index))
    return [*script, steps.finish("tool_calls"), steps.usage(10, 2), steps.done()]


def answering(*rounds: Calls) -> Callable[[ReceivedRequest], Script]:
    """Returns a script in which the model makes these calls, and then answers."""

    def script(request: ReceivedRequest) -> Script:
        messages = request.json["messages"]
        number = sum(message["role"] == "assistant" for message in messages)
        if number < len(rounds):
            return calls_of(number, rounds[number])
        return ["It ", "is done.", steps.finish(), steps.usage(20, 3), steps.done()]

    return script


class Service:
    """A server that plays rounds, and its client."""

    def __init__(self) -> None:
        self.script = answering()
        self.server = ScriptedServer(lambda request: self.script(request))
        self.server.start()
        self.client = Mistral(server_url=self.server.url)

    def run(self, *rounds: Calls, **options: Any) -> RunStream:
        self.script = answering(*rounds)
        return self.client.chat.run(model="m", messages=ASKED, **options)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    with made.client:
        yield made
    made.server.close()


def contents(stream: RunStream) -> list[str]:
    """Returns what the model read as the results of tools."""
    return [m.content for m in stream.messages if getattr(m, "role", "") == "tool"]  # type: ignore[union-attr,misc]


def add(a: int, b: int = 1) -> int:
    return a + b


async def double(a: int) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"doubled": 2 * a}


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


def fail() -> None:
    raise ToolError("not today")


def crash() -> None:
    raise KeyError("bug")


# --- the rounds ------------------------------------------------------------------


def test_run_emits_its_parts_on_each_face(service: Service, read: Face) -> None:
    stream = service.run([("add", '{"a": 1}'), ("double", '{"a": 2}')], tools=[add, double])
    parts = [part for part in read(stream) if part is not None]
    results = [part for part in parts if isinstance(part, ToolReturned)]
    assert sorted(part.content for part in results) == ["2", '{"doubled":4}']
    texts = [part.text for part in parts if isinstance(part, TextDelta)]
    assert texts == ["Let me see.", "It ", "is done."]
    assert [part.number for part in parts if isinstance(part, RoundEnded)] == [1, 2]
    assert [part for part in parts if isinstance(part, AnswerEnded)] == parts[-1:]
    assert parts[-1].usage.total_tokens == 35
    outcome = stream.outcome
    assert outcome is not None
    assert (outcome.status, outcome.requests, outcome.text) == ("completed", 2, "It is done.")
    assert outcome.usage is not None
    assert outcome.usage.prompt_tokens == 30
    assert outcome.tool_calls == []


def test_run_history_can_be_sent_again(service: Service) -> None:
    stream = service.run([("double", '{"a": 1}'), ("add", '{"a": 1}')], tools=[add, double])
    assert stream.messages == ASKED
    stream.run()
    assert contents(stream) == ['{"doubled":2}', "2"]
    assert not problems(stream.messages)
    service.client.chat.stream(model="m", messages=stream.messages).run()
    sent = service.server.requests[-1].json["messages"]
    assert sent[:-1] == service.server.requests[1].json["messages"]
    assert sent[-1] == {"role": "assistant", "content": "It is done."}


def test_run_has_text_and_outcome_of_its_pipes(service: Service) -> None:
    stream = service.run([("add", '{"a": 1}')], tools=[add])
    words = stream.text().words()
    assert list(words) == ["Let ", "me ", "see.It ", "is ", "done."]
    assert words.outcome is stream.outcome
    assert list(stream.thinking()) == []


def test_block_shares_one_run(service: Service) -> None:
    with service.run([("add", '{"a": 1}')], tools=[add]) as stream:
        assert stream.text().join().run() == "Let me see.It is done."
        assert isinstance(list(stream)[-1], AnswerEnded)
    assert len(service.server.requests) == 2


def test_run_of_a_plain_answer_has_one_round(service: Service) -> None:
    parts = list(service.run())
    assert parts[-2] == RoundEnded(1)


def test_retry_applies_to_each_round(service: Service) -> None:
    refused: list[int] = []
    script = answering([("add", '{"a": 1}')])

    def once_refusing(request: ReceivedRequest) -> Script:
        number = len(request.json["messages"])
        if number not in refused:
            refused.append(number)
            return [steps.status(503)]
        return script(request)

    stream = service.run(tools=[add], retry=Retry(initial=0.001))
    service.script = once_refusing
    stream.run()
    assert stream.outcome is not None
    assert stream.outcome.requests == 4


def test_ids_are_made_if_the_model_sends_none_or_repeats_them(service: Service) -> None:
    def script(request: ReceivedRequest) -> Script:
        if len(request.json["messages"]) > 3:
            return ["done", steps.finish(), steps.done()]
        return [
            steps.tool_call(id="same00000", name="add", arguments='{"a": 1}', index=0),
            steps.tool_call(name="add", arguments='{"a": 2}', index=1, finish="tool_calls"),
            steps.done(),
        ]

    stream = service.run(tools=[add])
    service.script = script
    parts = list(stream)
    assert not problems(stream.messages)
    ready = [part.call for part in parts if part.__class__.__name__ == "ToolCallReady"]
    started = [part.id for part in parts if part.__class__.__name__ == "ToolCallStarted"]
    assert started == [call.id for call in ready]
    returned = [part.call for part in parts if isinstance(part, ToolReturned)]
    assert sorted(str(call.id) for call in returned) == sorted(str(call.id) for call in ready)


# --- the tools -------------------------------------------------------------------


def test_progress_is_all_but_the_last_item(service: Service) -> None:
    rounds: Calls = [("count", '{"to": 3}'), ("numbers", "{}"), ("count", '{"to": 0}')]
    observable = tool(lambda: reactivex.of("a", "b"), name="numbers")
    stream = service.run(rounds, tools=[count, observable])
    progress = [(p.call.id, p.item) for p in stream if isinstance(p, ToolProgress)]
    assert sorted(progress) == [("call00000", 0), ("call00000", 1), ("call00001", "a")]
    assert contents(stream) == ["2", "b", "null"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fail", "{}", "not today"),
        ("add", '{"a": "1"}', "the arguments of add are invalid: Expected `int`, got `str`"),
        ("add", "[1]", "the arguments of add are invalid"),
        ("unknown", "{}", "there is no tool 'unknown'; available tools: add, fail"),
    ],
)
def test_model_reads_the_failure_of_a_tool(
    service: Service, name: str, arguments: str, message: str
) -> None:
    stream = service.run([(name, arguments)], tools=[add, fail])
    (failed,) = (part for part in stream if isinstance(part, ToolFailed))
    assert failed.message.startswith(message)
    assert contents(stream) == [failed.message]


def test_other_exception_ends_the_run(service: Service, read: Face) -> None:
    hanging = threading.Event()

    async def hang() -> None:
        hanging.set()
        await asyncio.sleep(BOUND)

    async def crash_later() -> None:
        await asyncio.to_thread(hanging.wait)
        raise KeyError("bug")

    stream = service.run(
        [("add", '{"a": 1}'), ("crash", "{}"), ("hang", "{}")],
        tools=[add, tool(crash_later, name="crash"), hang],
    )
    parts = read(stream)
    assert isinstance(parts[-1], KeyError)
    assert parts[-2].status == "failed"
    assert contents(stream)[1:] == ["cancelled", "cancelled"]
    assert not problems(stream.messages)
    assert len(service.server.requests) == 1


def test_result_that_is_not_json_ends_the_run(service: Service) -> None:
    stream = service.run([("thing", "{}")], tools=[tool(lambda: object(), name="thing")])
    with pytest.raises(TypeError, match="JSON serializable"):
        stream.run()
    assert contents(stream) == ["cancelled"]


def test_half_of_a_surrogate_pair_is_replaced_in_a_result(service: Service) -> None:
    stream = service.run([("name", "{}")], tools=[tool(lambda: "a\udcff", name="name")])
    stream.run()
    assert contents(stream) == ["a?"]


def test_system_exit_in_a_tool_ends_the_run(service: Service) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="raised SystemExit"):
        service.run([("leave", "{}")], tools=[leave]).run()


def test_run_can_be_read_while_a_loop_is_running(service: Service) -> None:
    stream = service.run([("double", '{"a": 1}')], tools=[double])

    async def main() -> list[Part]:
        return list(stream)

    assert isinstance(run(main())[-1], AnswerEnded)


def test_tool_may_return_an_answer(service: Service) -> None:
    def ask() -> Any:
        return service.client.chat.stream(model="m", messages=ASKED * 3).text()

    def script(request: ReceivedRequest) -> Script:
        if len(request.json["messages"]) == 3 and request.json["messages"][1]["role"] == "user":
            return ["one", "two", steps.finish(), steps.done()]
        return answering([("ask", "{}")])(request)

    stream = service.run(tools=[ask])
    service.script = script
    progress = [part.item for part in stream if isinstance(part, ToolProgress)]
    assert (progress, contents(stream)) == (["one"], ["two"])


def test_run_shows_its_model_and_state(service: Service) -> None:
    stream = service.run()
    assert repr(stream) == "<RunStream model='m', not started>"
    stream.run()
    assert repr(stream.text()) == "<TextStream of <RunStream model='m', completed>>"


def test_tools_run_in_the_context_of_the_subscriber(service: Service) -> None:
    async def on_loop() -> str:
        return variable.get()

    def on_thread() -> str:
        return variable.get()

    stream = service.run([("on_loop", "{}"), ("on_thread", "{}")], tools=[on_loop, on_thread])
    token = variable.set("of the subscriber")
    stream.run()
    variable.reset(token)
    assert contents(stream) == ["of the subscriber"] * 2


def test_async_tools_run_on_the_running_loop(service: Service) -> None:
    threads: set[int] = set()

    async def note() -> None:
        threads.add(threading.get_ident())

    def note_plain() -> None:
        threads.add(-threading.get_ident())

    stream = service.run([("note", "{}"), ("note_plain", "{}")], tools=[note, note_plain])

    async def main() -> int:
        await stream
        return threading.get_ident()

    own = run(main())
    assert own in threads
    assert -own not in threads
    assert len(threads) == 2


def test_loop_of_async_tools_lasts_for_the_run(service: Service) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    service.run([("note", "{}")], [("note", "{}")], tools=[note]).run()
    assert loops[0] is loops[1]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_calls_run_in_parallel_up_to_max_concurrency(service: Service, concurrency: int) -> None:
    running, most = 0, 0

    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    calls = [("busy", "{}")] * 6
    service.run(calls, tools=[busy], max_concurrency=concurrency).run()
    assert most == concurrency


def test_tool_stays_callable_as_its_function(service: Service) -> None:
    made = tool(add)
    stream = service.run([("add", '{"a": 1}')], tools=(each for each in [made]))
    stream.run()
    assert contents(stream) == [str(made(1))]


# --- approval, declared tools, the limit -----------------------------------------


async def approve_async(call: ToolCall) -> bool | str:
    return call.function.name == "add"


@pytest.mark.parametrize(
    ("approve", "result"),
    [
        (lambda call: True, "2"),
        (lambda call: False, "not approved"),
        (lambda call: "too expensive", "too expensive"),
        (lambda call: "", "not approved"),
        (approve_async, "2"),
        (lambda call: approve_async(ToolCall()), "not approved"),
    ],
)
def test_approve_decides_on_each_call(service: Service, approve: Any, result: str) -> None:
    ran: list[int] = []
    stream = service.run(
        [("add", '{"a": 1}')],
        tools=[tool(lambda a: ran.append(a) or a + 1, name="add")],  # type: ignore[func-returns-value]
        approve=approve,
    )
    stream.run()
    assert contents(stream) == [result]
    assert ran == ([1] if result == "2" else [])


def test_approve_that_returns_nothing_ends_the_run(service: Service) -> None:
    stream = service.run([("add", '{"a": 1}')], tools=[add], approve=lambda call: None)
    with pytest.raises(TypeError, match="approve must return True, False or a str, got NoneType"):
        stream.run()


def test_plain_approve_asks_one_question_at_a_time(service: Service) -> None:
    asking = threading.Lock()

    def approve(call: ToolCall) -> bool:
        with_lock = asking.acquire(blocking=False)
        time.sleep(0.005)
        asking.release()
        return with_lock

    stream = service.run([("add", '{"a": 1}')] * 3, tools=[add], approve=approve)
    stream.run()
    assert contents(stream) == ["2"] * 3


def test_declared_tools_end_the_run(service: Service) -> None:
    calls = [("declared", "{}"), ("add", '{"a": 1}')]
    stream = service.run(calls, tools=[DECLARED, add], max_rounds=1)
    parts = list(stream)
    assert isinstance(parts[-1], AnswerEnded)
    assert parts[-1].finish_reason == "tool_calls"
    assert contents(stream) == ["2"]
    assert stream.outcome is not None
    assert [call.function.name for call in stream.outcome.tool_calls] == ["declared"]
    assert problems(stream.messages)
    assert not problems(stream.messages, ["declared"])


def test_history_of_a_run_is_final_when_its_end_begins(service: Service) -> None:
    calls = [("declared", "{}"), ("add", '{"a": 1}')]
    stream = service.run(calls, tools=[add, DECLARED])
    seen: list[Any] = []

    def note(part: Part) -> None:
        if isinstance(part, RoundEnded) and stream._latest is not None:
            # A reader that leaves on another thread may read the history while the run ends.
            reader = Disposable(lambda: seen.extend(stream.messages))
            stream._latest._answer_subscription.disposable = reader

    stream.pipe(ops.do_action(note)).run()
    assert seen == stream.messages


def test_round_limit_error_carries_the_messages(service: Service, read: Face) -> None:
    rounds: list[Calls] = [[("add", '{"a": 1}')]] * 3
    stream = service.run(*rounds, tools=[add], max_rounds=2)
    *parts, ended, error = read(stream)
    assert isinstance(error, RoundLimitError)
    assert error.messages == stream.messages
    assert not problems(error.messages)
    assert contents(stream) == ["2", "not run: round limit"]
    assert parts[-1] == RoundEnded(2)
    assert ended.status == "failed"
    assert len(service.server.requests) == 2


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tools": [add, add]}, ValueError),
        ({"tools": [add, Tool(function=Function(name="add", parameters={}))]}, ValueError),
        ({"tools": [add, {"type": "function", "function": {"name": "add"}}]}, ValueError),
        ({"max_rounds": 0}, ValueError),
        ({"max_concurrency": 0}, ValueError),
        ({"approve": True}, TypeError),
        ({"tools": [3]}, TypeError),
        ({"tools": "add"}, TypeError),
        ({"temperature": "hot"}, TypeError),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(
    service: Service, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        service.run(**options)


# --- the end at any moment -------------------------------------------------------


def test_error_of_a_later_answer_keeps_the_history(service: Service) -> None:
    script = answering([("add", '{"a": 1}')])

    def breaking(request: ReceivedRequest) -> Script:
        if len(request.json["messages"]) == 1:
            return script(request)
        return ["It is", steps.error("overloaded")]

    stream = service.run(tools=[add])
    service.script = breaking
    with pytest.raises(ReportedError):
        stream.run()
    assert not problems(stream.messages)
    assert getattr(stream.messages[-1], "content", "") == "It is"
    assert stream.outcome is not None
    assert (stream.outcome.status, stream.outcome.requests) == ("reported", 2)


def test_callback_error_ends_the_run_in_each_phase(service: Service) -> None:
    for kind in (TextDelta, ToolReturned, RoundEnded, AnswerEnded):

        def raise_at(part: Part, kind: type = kind) -> Part:
            if isinstance(part, kind):
                raise LookupError(kind.__name__)
            return part

        stream = service.run([("add", '{"a": 1}')], tools=[add])
        with pytest.raises(LookupError, match=kind.__name__):
            stream.map(raise_at).run()
        assert not problems(stream.messages)


def test_cancelled_task_cancels_async_tools(service: Service) -> None:
    cancelled = threading.Event()

    async def main() -> None:
        started = asyncio.Event()

        async def hang() -> None:
            started.set()
            try:
                await asyncio.sleep(BOUND)
            finally:
                cancelled.set()

        stream = service.run([("hang", "{}")], tools=[hang])

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert contents(stream) == ["cancelled"]
        await asyncio.to_thread(cancelled.wait, BOUND)

    asyncio.run(main())
    assert cancelled.is_set()


def test_dispose_abandons_plain_tools(service: Service) -> None:
    started, leave = threading.Event(), threading.Event()

    def hang() -> str:
        started.set()
        leave.wait(BOUND)
        return "late"

    received: list[Part] = []
    stream = service.run([("hang", "{}")], tools=[hang])
    subscription = stream.subscribe(received.append)
    assert started.wait(BOUND)
    subscription.dispose()
    assert contents(stream) == ["cancelled"]
    outcome, count = stream.outcome, len(received)
    assert outcome is not None
    assert (outcome.status, outcome.tool_calls) == ("cancelled", [])
    leave.set()
    assert eventually(lambda: not any("tool" in t.name for t in threading.enumerate()))
    assert contents(stream) == ["cancelled"]
    assert len(received) == count
    assert len(service.server.requests) == 1


def test_dispose_closes_the_request_of_a_later_round(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = answering([("add", '{"a": 1}')])
    arrived, disposed = threading.Event(), threading.Event()
    subscribe, main_thread = EventStream.subscribe, threading.current_thread()

    def subscribe_slowly(stream: EventStream, *arguments: Any, **options: Any) -> Any:
        subscription = subscribe(stream, *arguments, **options)
        if threading.current_thread() is not main_thread:  # that of the later round
            disposed.wait(BOUND)
        return subscription

    def hanging(request: ReceivedRequest) -> Script:
        if len(request.json["messages"]) == 1:
            return script(request)
        return ["It is", steps.hang()]

    def note(part: Part) -> None:
        if isinstance(part, TextDelta) and part.text == "It is":
            arrived.set()

    monkeypatch.setattr(EventStream, "subscribe", subscribe_slowly)
    stream = service.run(tools=[add])
    service.script = hanging
    subscription = stream.subscribe(note)
    assert arrived.wait(BOUND)
    subscription.dispose()
    assert getattr(stream.messages[-1], "content", "") == "It is"
    service.server.requests[1].wait_closed()
    disposed.set()


def test_close_ends_the_loop_of_a_run(service: Service) -> None:
    stream = service.run([("add", '{"a": 1}')], tools=[add])
    for part in stream:
        if isinstance(part, ToolReturned):
            stream.close()
    assert not problems(stream.messages)


SCRIPTS = st.lists(
    st.lists(
        st.sampled_from(
            [
                ("add", '{"a": 1}'),
                ("double", '{"a": 1}'),
                ("count", '{"to": 3}'),
                ("fail", "{}"),
                ("add", '{"a": "x"}'),
                ("crash", "{}"),
                ("unknown", "{}"),
                ("declared", "{}"),
            ]
        ),
        min_size=1,
        max_size=4,
    ),
    max_size=3,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(SCRIPTS, st.integers(1, 3), st.one_of(st.none(), st.integers(0, 25)), st.booleans())
def test_history_is_valid_after_random_runs(
    service: Service, script: list[Calls], max_rounds: int, leave_at: int | None, on_loop: bool
) -> None:
    ran: list[str] = []

    def approve(call: ToolCall) -> bool:
        ran.append(str(call.id))
        return True

    tools = [add, double, count, fail, crash, DECLARED]
    stream = service.run(*script, tools=tools, max_rounds=max_rounds, approve=approve)

    def check(index: int) -> bool:
        messages = stream.messages  # first: the run may end at this moment
        open_calls = [] if stream.outcome is None else stream.outcome.tool_calls
        assert not problems(messages, ["declared"] if open_calls else [])
        return index == leave_at

    async def read() -> None:
        index = 0
        async for _ in stream:
            if check(index):
                break
            index += 1

    with suppress(KeyError, RoundLimitError):
        if on_loop:
            asyncio.run(read())
        else:
            for index, _ in enumerate(stream):
                if check(index):
                    break
    check(-1)
    assert len(set(ran)) == len(ran)
