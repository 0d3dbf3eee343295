"""However an answer goes and wherever it breaks: it has one ending, one outcome and one text.

Random services are read in random ways. A model, which is written from the contract alone and
does not use the library, computes the expected result: it goes through the requests that the
server has received, and determines after each of them the possible states, and whether another
request had to follow. If the wire leaves open how much has arrived (after a reset or a timeout),
the model continues with every possible state.

    HYPOTHESIS_PROFILE=explore RXMISTRAL_EXAMPLES=5000 pytest tests/test_endings.py --timeout 0
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from faces import BOUND, FACES, eventually, run
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from leftovers import our_threads
from reactivex import operators as ops

from rxmistral import (
    AssistantMessage,
    ChatCompletionResponse,
    CompletionEvent,
    DroppedStreamError,
    Limit,
    Mistral,
    Outcome,
    ReportedError,
    RequestError,
    RequestTimeoutError,
    Resume,
    Retry,
    StatusError,
    StreamError,
    TextChunk,
    ThinkChunk,
    Timeouts,
    UnfinishedToolCall,
    on_outcome,
)
from rxmistral.chat.event_stream import EventStream
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, Step, steps

EXAMPLES = int(os.environ.get("RXMISTRAL_EXAMPLES", settings().max_examples))
KEY = "sk-0123456789abcdef"
SHORT = 0.25
"""Seconds of a timeout that is meant to expire."""

OVERTAKEN = int(os.environ.get("RXMISTRAL_OVERTAKEN", "0"))
"""Requests that may be sent after the stream was left: 0, if this holds for
`test_dispose_in_a_policy_callback_sends_no_further_request`."""

Thread = threading.Thread

# --- the service -------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A message of the service, and its meaning."""

    step: Step
    text: str = ""  # that it adds
    raw: str = ""  # the text with its part of an echo
    thinking: str = ""
    call: tuple[str, str] | None = None  # the name, and a part of the arguments
    finish: str = ""
    word: str = ""  # "done", "error"

    @property
    def useful(self) -> bool:
        return bool(self.raw or self.thinking or self.call)


@dataclass(frozen=True)
class Attempt:
    """The service's reaction to one request.

    `body` has the kinds of its frames, `tail` those at its end, and `action` is what follows
    them. `echo` is the form in which the text that is continued is repeated.
    """

    refusal: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    silent: bool = False  # before the headers; then the action follows
    echo: str = "whole"
    body: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    action: str = "end"


ECHOES = [
    "whole",
    "split",
    "characters",
    "in a list",
    "with the rest",
    "trimmed",
    "trimmed, and blanks again",
    "none",
    "none, but blanks again",
]
KINDS = ["text", "text", "text", "listed", "both", "thinking", "role", "empty"]
KINDS += ["call", "usage", "comment", "wait"]

TAILS: list[tuple[tuple[str, ...], str]] = [
    (("stop", "done"), "end"),
    (("stop", "usage", "done"), "end"),
    (("length", "done"), "end"),
    (("stop",), "end"),
    (("done",), "end"),
    (("done",), "hang"),
    (("done",), "drop"),
    (("done", "error"), "abort"),
    ((), "end"),
    ((), "drop"),
    ((), "drop"),
    ((), "abort"),
    ((), "hang"),
    (("stop",), "drop"),
    (("stop",), "hang"),
    (("error",), "end"),
    (("error", "text", "stop", "done"), "end"),
    (("refused", "done"), "end"),
    (("stop", "error"), "end"),
]


@dataclass(frozen=True)
class Style:
    """The form of the pieces of a text: each is unique, and has blanks on one side only, so that
    an echo is never ambiguous."""

    before: str
    after: str

    def piece(self, attempt: int, number: int) -> str:
        letter = chr(ord("a") + attempt % 26)
        return f"{self.before}{letter}{attempt}.{number}é{self.after}"


def frames_of(attempt: Attempt, number: int, prefix: str | None, style: Style) -> list[Frame]:
    """Returns what an attempt sends, as the `number`-th one of its call."""
    frames = [_frame(kind, number, at, style) for at, kind in enumerate(attempt.body)]
    frames = _closing_calls(frames)
    if prefix is not None:
        frames = _echoing(frames, attempt.echo, prefix)
    return frames + [_frame(kind, number, 90 + at, style) for at, kind in enumerate(attempt.tail)]


def _frame(kind: str, attempt: int, at: int, style: Style) -> Frame:
    piece = style.piece(attempt, at)
    thought: dict[str, Any] = {"type": "thinking", "thinking": [{"type": "text", "text": piece}]}
    listed: dict[str, Any] = {"type": "text", "text": piece}
    match kind:
        case "text":
            return Frame(steps.text(piece), piece, piece)
        case "listed":
            return Frame(steps.delta({"content": [listed]}), piece, piece)
        case "both":
            return Frame(steps.delta({"content": [thought, listed]}), piece, piece, piece)
        case "thinking":
            return Frame(steps.thinking(piece), thinking=piece)
        case "role":
            return Frame(steps.role())
        case "empty":
            return Frame(steps.empty())
        case "usage":
            return Frame(steps.usage(3, at))
        case "comment":
            return Frame(steps.comment())
        case "wait":
            return Frame(steps.wait(0.002))
        case "call":
            return _call(f"f{at}", '{"n": ')
        case "done":
            return Frame(steps.done(), word="done")
        case "error":
            return Frame(steps.error("overloaded by " + KEY), word="error")
        case "refused":
            return Frame(steps.finish("error"), word="error")
        case _:
            return Frame(steps.finish(kind, usage=(3, at)), finish=kind)


def _call(name: str, arguments: str) -> Frame:
    """Returns a part of a tool call; the call f7 has the index 7."""
    begins = arguments.startswith("{")
    step = steps.tool_call(
        id="call" + name if begins else None,
        name=name if begins else "",
        arguments=arguments,
        index=int(name[1:]),
    )
    return Frame(step, call=(name, arguments))


def _closing_calls(frames: list[Frame]) -> list[Frame]:
    """Completes every other tool call."""
    closed: list[Frame] = []
    for frame in frames:
        closed.append(frame)
        if frame.call is not None and int(frame.call[0][1:]) % 2:
            closed.append(_call(frame.call[0], "1}"))
    return closed


def _echoing(frames: list[Frame], echo: str, prefix: str) -> list[Frame]:
    """Inserts the echo before the first text, or into it."""
    at = next((n for n, frame in enumerate(frames) if frame.raw), len(frames))
    trimmed = prefix.rstrip()
    blanks = prefix[len(trimmed) :]
    before: list[str] = []
    with_rest = ""
    match echo:
        case "whole":
            before = [prefix]
        case "split":
            before = [prefix[: len(prefix) // 2], prefix[len(prefix) // 2 :]]
        case "characters":
            before = list(prefix)
        case "in a list":
            listed = {"type": "text", "text": prefix}
            step = steps.delta({"content": [listed]})
            return [*frames[:at], Frame(step, raw=prefix), *frames[at:]]
        case "with the rest":
            with_rest = prefix
        case "trimmed":
            before = [trimmed]
        case "trimmed, and blanks again":
            before, with_rest = [trimmed], blanks
        case "none, but blanks again":
            with_rest = blanks
    if with_rest and at < len(frames):
        rest = with_rest + frames[at].text
        thinking = frames[at].thinking
        content: list[dict[str, Any]] = [{"type": "text", "text": rest}]
        if thinking:
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": thinking}]}
            content.insert(0, thought)
        frames[at] = replace(frames[at], step=steps.delta({"content": content}), raw=rest)
    return [*frames[:at], *(Frame(steps.text(each), raw=each) for each in before), *frames[at:]]


def script_of(attempt: Attempt, frames: list[Frame]) -> Script:
    if attempt.refusal:
        body = {"message": f"no, with the key {KEY}"}
        return [steps.status(attempt.refusal, body=body, headers=dict(attempt.headers))]
    act = {"end": steps.end, "drop": steps.drop, "abort": steps.abort, "hang": steps.hang}
    if attempt.silent:
        return [act[attempt.action]()]
    pause = [steps.wait(0.01)] if attempt.action == "abort" else []  # so that the frames arrive
    return [steps.headers(), *(frame.step for frame in frames), *pause, act[attempt.action]()]


# --- the model --------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """The policies of a call that the model needs."""

    attempts: int = 1  # of Retry
    resumes: int = 0  # of Resume
    short: bool = False  # the timeouts may expire at any moment


Calls = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class State:
    """The state of an answer after some requests."""

    text: str = ""
    thinking: str = ""
    calls: Calls = ()  # names and arguments
    finish: str = ""
    prefix: str | None = None  # that the next request must contain
    failures: int = 0
    resumed: int = 0
    broken: frozenset[str] = frozenset()  # statuses of the continued breaks
    statuses: frozenset[str] = frozenset()  # possible ones, once it has ended


@dataclass(frozen=True)
class Failure:
    """How an attempt failed."""

    status: str
    breaks: bool = True  # an answer that had begun
    repeatable: bool = True


Ending = tuple[int, Failure | None]
"""The number of frames that arrive, and the failure that follows; None: the answer is whole."""


def endings(attempt: Attempt, frames: list[Frame], short: bool) -> Iterator[Ending]:
    if short:
        yield 0, Failure("timed_out", breaks=False)
        yield from (_ending(frames[:count], "hang") for count in range(len(frames) + 1))
    if attempt.refusal:
        again = attempt.refusal == 429 or attempt.refusal >= 500
        yield 0, Failure("refused", breaks=False, repeatable=again)
    elif attempt.silent:
        yield 0, Failure("timed_out" if attempt.action == "hang" else "failed", breaks=False)
    elif attempt.action == "abort":  # a reset may overtake the frames before it
        yield 0, Failure("failed", breaks=False)
        yield from (_ending(frames[:count], "drop") for count in range(len(frames) + 1))
    else:
        yield _ending(frames, attempt.action)


def _ending(frames: list[Frame], action: str) -> Ending:
    for number, frame in enumerate(frames, 1):
        if frame.word:
            return number, None if frame.word == "done" else Failure("reported")
    if any(frame.finish for frame in frames):
        return len(frames), None
    statuses = {"end": "truncated", "hang": "timed_out", "drop": "dropped"}
    return len(frames), Failure(statuses[action])


def arrived(state: State, frames: list[Frame], whole: bool) -> tuple[State, bool]:
    """Returns the state after these frames, and whether anything useful was emitted.

    Text that may be an echo is not emitted until this is certain.
    """
    finish = next((frame.finish for frame in frames if frame.finish), "")
    received = "".join(frame.raw for frame in frames)
    prefix = state.prefix
    uncertain = prefix is not None and prefix.startswith(received) and prefix != received
    if uncertain and not finish and not whole:
        return state, False
    state = replace(
        state,
        text=state.text + "".join(frame.text for frame in frames),
        thinking=state.thinking + "".join(frame.thinking for frame in frames),
        calls=_with_calls(state.calls, frames),
        finish=finish,
    )
    return state, any(frame.text or frame.thinking or frame.call for frame in frames)


def _with_calls(calls: Calls, frames: list[Frame]) -> Calls:
    gathered = dict(calls)
    for name, arguments in (frame.call for frame in frames if frame.call is not None):
        gathered[name] = gathered.get(name, "") + arguments
    return tuple(gathered.items())


def after(state: State, useful: bool, failure: Failure | None, policy: Policy) -> State:
    """Returns the state with which the next request begins, or the final one."""
    if failure is None:
        return replace(state, statuses=frozenset({"completed"}))
    state = replace(state, failures=0 if useful else state.failures + 1)
    if not state.finish:
        if not useful and failure.repeatable and state.failures < policy.attempts:
            return state
        if _is_resumed(state, failure, policy):
            return _resumed(state, failure)
    continuing = state.prefix is not None and not failure.breaks
    return replace(state, statuses=state.broken if continuing else frozenset({failure.status}))


def _is_resumed(state: State, failure: Failure, policy: Policy) -> bool:
    resumable = failure.breaks if state.prefix is None else failure.repeatable
    return bool(resumable and state.resumed < policy.resumes and state.text and not state.calls)


def _resumed(state: State, failure: Failure) -> State:
    broken = state.broken | ({failure.status} if failure.breaks else set())
    return replace(state, prefix=state.text, failures=0, resumed=state.resumed + 1, broken=broken)


@dataclass(frozen=True)
class Seen:
    """A request that the server has received: the text to continue, and its reaction."""

    prefix: str | None
    attempt: Attempt
    frames: list[Frame]


def possible(seen: list[Seen], policy: Policy, *, left: bool) -> list[State]:
    """Returns the states that these requests may have led to.

    If the stream was left, these include the intermediate ones.
    """
    before = states = _with_unseen([State()], policy)
    for number, request in enumerate(seen):
        before = [
            state for state in states if not state.statuses and state.prefix == request.prefix
        ]
        assert before, f"request {number} was not expected: {request.prefix!r}"
        states = _with_unseen(list(dict.fromkeys(_following(before, request, policy))), policy)
    if not left:
        return [state for state in states if state.statuses]
    frames = seen[-1].frames if seen else []
    cuts = range(len(frames) + 1)
    return states + [
        arrived(state, frames[:cut], whole)[0]
        for state in before
        for cut in cuts
        for whole in (False, True)
    ]


def _with_unseen(states: list[State], policy: Policy) -> list[State]:
    """Adds the states after a request that timed out before the server received it."""
    late = Failure("timed_out", breaks=False)
    unseen = [after(state, False, late, policy) for state in states if not state.statuses]
    return states + unseen if policy.short else states


def _following(before: list[State], request: Seen, policy: Policy) -> Iterator[State]:
    for state in before:
        for count, failure in endings(request.attempt, request.frames, policy.short):
            reached, useful = arrived(state, request.frames[:count], failure is None)
            yield after(reached, useful, failure, policy)


# --- the readings --------------------------------------------------------------

Watch = Callable[[Any], Any]


@dataclass
class Result:
    """What a reading received."""

    items: list[CompletionEvent] = field(default_factory=list)
    error: BaseException | None = None
    ended: int = 0  # the number of endings; a loop cannot end twice
    left: bool = False
    unwatched: bool = False  # there was no subscription with an outcome callback
    raised: bool = False

    def add(self, item: CompletionEvent) -> None:
        assert not self.ended
        self.items.append(item)

    def fail(self, error: Exception) -> None:
        self.error = error
        self.ended += 1

    def complete(self) -> None:
        self.ended += 1


Reading = Callable[[EventStream, Watch, int], Result]


def to_the_end(name: str) -> Reading:
    def read(source: EventStream, watch: Watch, _: int) -> Result:
        items = FACES[name](source.pipe(watch))
        error = items.pop() if items and isinstance(items[-1], BaseException) else None
        return Result(items, error, ended=1)

    return read


def subscribed(source: EventStream, watch: Watch, _: int) -> Result:
    result, ended = Result(), threading.Event()
    source.pipe(watch, ops.finally_action(ended.set)).subscribe(
        result.add, result.fail, result.complete
    )
    assert ended.wait(BOUND)
    return result


def within_with(source: EventStream, watch: Watch, _: int) -> Result:
    result = Result(ended=1)
    with source as opened:
        try:
            for item in opened.pipe(watch):
                result.items.append(item)
        except Exception as error:
            result.error = error
    return result


def after_its_response(source: EventStream, watch: Watch, _: int) -> Result:
    try:
        assert source.response.ok
    except Exception as error:
        return Result(error=error, ended=1, unwatched=True)
    return to_the_end("for")(source, watch, 0)


def its_response_alone(source: EventStream, watch: Watch, _: int) -> Result:
    result = Result(left=True, unwatched=True)
    with source:
        try:
            assert source.response.ok
        except Exception as error:
            result = Result(error=error, ended=1, unwatched=True)
    return result


def raising(source: EventStream, watch: Watch, count: int) -> Result:
    result, ended = Result(), threading.Event()

    def on_next(item: CompletionEvent) -> None:
        result.add(item)
        if len(result.items) >= count and delivered_text([item]):
            result.raised = result.left = True
            raise ZeroDivisionError

    source.pipe(watch, ops.finally_action(ended.set)).subscribe(
        on_next, result.fail, result.complete
    )
    assert ended.wait(BOUND)
    return result


def taking(source: EventStream, watch: Watch, count: int) -> Result:
    result, ended = Result(), threading.Event()
    source.pipe(watch, ops.take(count), ops.finally_action(ended.set)).subscribe(
        result.add, result.fail, result.complete
    )
    assert ended.wait(BOUND)
    result.left = len(result.items) == count
    return result


def disposing_inside(source: EventStream, watch: Watch, count: int) -> Result:
    result, ended, subscribed = Result(), threading.Event(), threading.Event()
    subscription: Any = None

    def on_next(item: CompletionEvent) -> None:
        result.add(item)
        if len(result.items) == count:
            assert subscribed.wait(BOUND)
            result.left = True
            subscription.dispose()

    subscription = source.pipe(watch, ops.finally_action(ended.set)).subscribe(
        on_next, result.fail, result.complete
    )
    subscribed.set()
    assert ended.wait(BOUND)
    assert not (result.left and result.ended)
    return result


def disposing_elsewhere(source: EventStream, watch: Watch, count: int) -> Result:
    result, enough = Result(left=True), threading.Event()

    def on_next(item: CompletionEvent) -> None:
        result.add(item)
        if len(result.items) == count:
            enough.set()

    subscription = source.pipe(watch, ops.finally_action(enough.set)).subscribe(
        on_next, result.fail, result.complete
    )
    if count > 1:
        assert enough.wait(BOUND)
    subscription.dispose()
    items, ended = len(result.items), result.ended
    assert eventually(lambda: not our_threads())
    assert len(result.items) <= items + 1, "only one callback can have been running"
    assert result.ended <= max(ended, 1)
    return result


def breaking(source: EventStream, watch: Watch, count: int) -> Result:
    result = Result(ended=1)
    try:
        for item in source.pipe(watch):
            result.items.append(item)
            if len(result.items) == count:
                result.left = True
                break
    except Exception as error:
        result.error = error
    return result


def breaking_out_of_with(source: EventStream, watch: Watch, count: int) -> Result:
    with source as opened:
        return breaking(opened, watch, count)


async def _async_breaking(source: EventStream, watch: Watch, count: int) -> Result:
    result = Result(ended=1)
    try:
        async for item in source.pipe(watch):
            result.items.append(item)
            if len(result.items) == count:
                result.left = True
                break
    except Exception as error:
        result.error = error
    return result


def breaking_out_of_async_for(source: EventStream, watch: Watch, count: int) -> Result:
    return run(_async_breaking(source, watch, count))


def cancelling_a_task(source: EventStream, watch: Watch, count: int) -> Result:
    result = Result(ended=1)

    async def read(enough: asyncio.Event) -> None:
        try:
            async for item in source.pipe(watch):
                result.items.append(item)
                if len(result.items) == count:
                    enough.set()
                    await asyncio.sleep(0)
        except Exception as error:
            result.error = error
        finally:
            enough.set()

    async def main() -> None:
        enough = asyncio.Event()
        task = asyncio.create_task(read(enough))
        await asyncio.wait_for(enough.wait(), BOUND)
        result.left = task.cancel()
        await asyncio.wait([task])

    run(main())
    return result


READINGS: dict[str, Reading] = {name: to_the_end(name) for name in FACES}
READINGS |= {
    each.__name__: each
    for each in (
        subscribed,
        within_with,
        after_its_response,
        its_response_alone,
        raising,
        taking,
        disposing_inside,
        disposing_elsewhere,
        breaking,
        breaking_out_of_with,
        breaking_out_of_async_for,
        cancelling_a_task,
    )
}


def delivered_text(items: list[CompletionEvent]) -> str:
    """Returns the text of completions."""
    choices = [choice for item in items for choice in item.data.choices]
    return "".join(_text(choice.delta.content) for choice in choices)


def _text(content: Any) -> str:
    if not isinstance(content, list):
        return content or ""
    return "".join(part.text for part in content if isinstance(part, TextChunk))


def thought(response: ChatCompletionResponse) -> str:
    """Returns the thinking of a response."""
    contents = [message.content for message in messages_of(response)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    thoughts = [each for part in parts if isinstance(part, ThinkChunk) for each in part.thinking]
    return "".join(each.text for each in thoughts if isinstance(each, TextChunk))


def text_of(response: ChatCompletionResponse) -> str:
    return "".join(_text(message.content) for message in messages_of(response))


def calls_of(response: ChatCompletionResponse) -> list[Any]:
    return [call for message in messages_of(response) for call in message.tool_calls or ()]


def messages_of(response: ChatCompletionResponse) -> list[AssistantMessage]:
    return [choice.message for choice in response.choices or () if choice.message is not None]


# --- the property ----------------------------------------------------------------


@dataclass(frozen=True)
class CallPlan:
    """A call, and the reactions of the service to its requests."""

    attempts: tuple[Attempt, ...]
    retry: int
    resume: int
    reading: str
    count: int

    @property
    def policy(self) -> Policy:
        short = any(attempt.action == "hang" for attempt in self.attempts)
        return Policy(max(self.retry, 1), self.resume, short)


REFUSALS: list[tuple[int, tuple[tuple[str, str], ...]]] = [
    (429, ()),
    (429, (("Retry-After", "0"),)),
    (429, (("retry-after-ms", "2"),)),
    (503, (("Retry-After", "0.002"),)),
    (500, ()),
    (529, ()),
    (400, ()),
    (422, ()),
]


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    fate = draw(st.sampled_from(["answer"] * 6 + ["refusal", "silence"]))
    if fate == "refusal":
        refusal, headers = draw(st.sampled_from(REFUSALS))
        return Attempt(refusal=refusal, headers=headers)
    if fate == "silence":
        return Attempt(silent=True, action=draw(st.sampled_from(["drop", "abort", "hang"])))
    tail, action = draw(st.sampled_from(TAILS))
    body = draw(st.lists(st.sampled_from(KINDS), max_size=8).map(tuple))
    return Attempt(echo=draw(st.sampled_from(ECHOES)), body=body, tail=tail, action=action)


runs = st.builds(
    CallPlan,
    attempts=st.lists(attempts(), min_size=1, max_size=4).map(tuple),
    retry=st.integers(0, 4),
    resume=st.integers(0, 3),
    reading=st.sampled_from(list(READINGS)),
    count=st.integers(1, 6),
)
styles = st.sampled_from(
    [Style("", ""), Style("", " "), Style(" ", ""), Style("", "\n\n"), Style("\n", "")]
)
limits = st.sampled_from([None, (1, None), (2, 10_000)])


class Service:
    """Answers according to the plans of an example, and records the requests."""

    def __init__(self, runs: list[CallPlan], style: Style) -> None:
        self._runs = runs
        self._style = style
        self._lock = threading.Lock()
        self.server: ScriptedServer | None = None
        self.seen: list[list[Seen]] = [[] for _ in runs]
        self.overlaps = 0

    def __call__(self, request: ReceivedRequest) -> Script:
        assert self.server is not None
        server = self.server
        number = int(request.headers["X-CallPlan"])
        last = request.json["messages"][-1]
        prefix = last["content"] if last.get("prefix") else None
        if not eventually(lambda: server.open_connections <= 1):
            self.overlaps += 1
        with self._lock:
            seen = self.seen[number]
            attempt = (*self._runs[number].attempts, *[Attempt(refusal=400)] * 9)[len(seen)]
            frames = frames_of(attempt, len(seen), prefix, self._style)
            seen.append(Seen(prefix, attempt, frames))
        return script_of(attempt, frames)


@given(
    runs=st.lists(runs, min_size=1, max_size=3),
    style=styles,
    framing=st.sampled_from(["chunked", "gzip", "length"]),
    limit=limits,
)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_each_stream_has_one_ending_and_the_text_of_one_answer(
    runs: list[CallPlan], style: Style, framing: Any, limit: tuple[int, int | None] | None
) -> None:
    service = Service(runs, style)
    with ScriptedServer(service, framing=framing) as server:
        service.server = server
        shared = Limit(*limit) if limit else None
        with Mistral(KEY, server_url=server.url, limit=shared) as client:
            for number, each in enumerate(runs):
                check_run(client, service, number, each)
        assert server.wait_idle(BOUND)
    assert service.overlaps == 0, "a stream had two connections at once"


def _outcome(source: EventStream) -> Outcome | None:
    """Returns the outcome; a type checker would assume that it does not change."""
    return source.outcome


def check_run(client: Mistral, service: Service, number: int, each: CallPlan) -> None:
    note(f"run {number}: {each}")
    errors: list[BaseException] = []
    outcomes: list[Outcome] = []
    clock = SHORT if each.policy.short else BOUND
    retry = Retry(
        max(each.retry, 1),
        initial=0.001,
        maximum=0.002,
        on_retry=lambda error, *_: errors.append(error),
    )
    resume = Resume(max(each.resume, 1), on_resume=lambda e, _: errors.append(e))
    source = client.chat.stream(
        model="m",
        messages=[{"role": "user", "content": "?"}],
        http_headers={"X-CallPlan": str(number)},
        timeouts=Timeouts(connect=BOUND, first=clock, gap=clock),
        retry=retry if each.retry else None,
        resume=resume if each.resume else None,
    )
    assert _outcome(source) is None
    began = time.monotonic()
    result = READINGS[each.reading](source, on_outcome(outcomes.append), each.count)
    if not result.left:
        assert result.ended == 1
        assert source.outcome is not None
    assert eventually(lambda: not our_threads())
    assert eventually(lambda: source.outcome is not None)
    assert result.unwatched or eventually(lambda: bool(outcomes))
    assert time.monotonic() - began < BOUND
    seen = service.seen[number]
    note(f"result: {result}\nseen: {seen}\noutcomes: {outcomes}\n{source.outcome}")

    assert len(outcomes) == (not result.unwatched)
    assert result.ended <= 1
    states = possible(seen, each.policy, left=result.left)
    assert source.outcome is not None
    for outcome in (source.outcome, *outcomes):
        check_outcome(outcome, result, states)
        check_requests(outcome, result, len(seen), each.policy)
    check_agreement(source.outcome, outcomes, result)
    for error in (*errors, result.error, source.outcome.error):
        check_error(error)


def check_outcome(outcome: Outcome, result: Result, states: list[State]) -> None:
    response, delivered = outcome.response, delivered_text(result.items)
    agreeing = [
        state
        for state in states
        if state.text == text_of(response)
        and state.thinking == thought(response)
        and [name for name, _ in state.calls] == [each.function.name for each in calls_of(response)]
    ]
    if not agreeing and isinstance(result.error, RequestTimeoutError):
        return  # timed out before the busy machine had passed the request to the server
    assert agreeing, f"{response} agrees with no state: {states}"
    check_calls(outcome, agreeing)
    if result.left:
        assert text_of(response).startswith(delivered)
        assert outcome.status != "completed" or any("completed" in s.statuses for s in states)
        if result.raised:
            assert (outcome.status, text_of(response)) == ("failed", delivered)
    else:
        assert result.unwatched or text_of(response) == delivered
        assert outcome.error is result.error
        if isinstance(result.error, StreamError):
            assert result.error.partial is not None
            assert text_of(result.error.partial) == text_of(response)
            assert thought(result.error.partial) == thought(response)
            assert calls_of(result.error.partial) == calls_of(response)
        assert any(outcome.status in state.statuses for state in agreeing)
        assert any(outcome.resumed == state.resumed for state in agreeing)
    check_figures(outcome, agreeing)


def check_requests(outcome: Outcome, result: Result, seen: int, policy: Policy) -> None:
    """A request may be cancelled or time out before the server receives it."""
    if result.left or policy.short:
        assert seen - OVERTAKEN <= outcome.requests <= seen + 2
    else:
        assert outcome.requests == seen


def check_calls(outcome: Outcome, states: list[State]) -> None:
    calls = calls_of(outcome.response)
    arguments = [each.function.arguments for each in calls]
    assert any([each for _, each in state.calls] == arguments for state in states)
    if outcome.status != "completed":
        halves = [each for each in calls if not each.function.arguments.endswith("}")]
        if not outcome.finish_reason:
            assert all(isinstance(each, UnfinishedToolCall) for each in halves)
    elif any(state.finish == "stop" for state in states):
        assert not any(isinstance(each, UnfinishedToolCall) for each in calls)


def check_figures(outcome: Outcome, states: list[State]) -> None:
    useful = any(state.text or state.thinking or state.calls for state in states)
    moments = (outcome.seconds_to_first_token, outcome.seconds_to_last_token)
    if useful:
        assert moments[0] is not None
        assert moments[1] is not None
        assert 0 <= moments[0] <= moments[1] < BOUND
    else:
        assert moments == (None, None)
    assert not outcome.usage_is_exact or outcome.usage is not None
    if outcome.status == "completed":
        assert outcome.error is None
        if (
            outcome.finish_reason != "error"
        ):  # see test_completed_outcome_has_no_error_as_finish_reason
            assert outcome.finish_reason in {state.finish or None for state in states}


def check_agreement(outcome: Outcome, outcomes: list[Outcome], result: Result) -> None:
    """Checks that all outcomes agree.

    If the stream was left just before its end, the end may have reached only some of them.
    """
    for other in outcomes:
        if result.left and not result.raised:
            assert other.status == outcome.status or "cancelled" in (other.status, outcome.status)
        else:
            assert other.status == outcome.status
            assert text_of(other.response) == text_of(outcome.response)
            assert other.finish_reason == outcome.finish_reason


def check_error(error: BaseException | None) -> None:
    while error is not None:
        shown = [str(error), repr(error), *getattr(error, "__notes__", ()), repr(vars(error))]
        assert not any(KEY in each for each in shown)
        error = error.__cause__ or error.__context__


# --- single cases ------------------------------------------------------------------

HELLO = [{"role": "user", "content": "?"}]
NO = steps.status(503, body={"message": "later"})


def ask(client: Mistral, **policies: Any) -> EventStream:
    return client.chat.stream(model="m", messages=HELLO, **policies)


def read(source: EventStream) -> Result:
    """Reads a stream to its end, by a subscription."""
    return subscribed(source, lambda stream: stream, 0)


def late_to_return(
    monkeypatch: pytest.MonkeyPatch, until: Callable[[Thread], bool] = lambda reader: False
) -> None:
    """Delays the thread that starts the next reader until this reader has ended, or until a
    condition holds: the threads of a busy process are scheduled like this now and then."""
    start = Thread.start

    def started(self: Thread) -> None:
        start(self)
        if self.name == "rxmistral-reader":
            monkeypatch.setattr(Thread, "start", start)
            assert eventually(lambda: not self.is_alive() or until(self))

    monkeypatch.setattr(Thread, "start", started)


def test_failure_before_subscribe_returns_ends_no_other_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()
    with ScriptedServer([NO], ["Hi", steps.done()]) as server, Mistral(server_url=server.url) as c:
        late_to_return(monkeypatch)
        ask(c, retry=Retry(initial=0.1)).subscribe(on_completed=ended.set)
        assert ended.wait(BOUND)


def test_items_after_a_reported_error_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script: Script = ["Hel", steps.error("later"), "lo", steps.finish("stop"), steps.done()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        late_to_return(monkeypatch)
        stream = ask(client)
        result = read(stream)
    assert isinstance(result.error, ReportedError)
    assert stream.outcome is not None
    assert (text_of(stream.outcome.response), stream.outcome.finish_reason) == ("Hel", None)


CALLBACKS: dict[str, tuple[Script, Callable[[Any], dict[str, Any]]]] = {
    "on_retry": ([NO], lambda call: {"retry": Retry(initial=0, on_retry=call)}),
    "on_resume": (["Hel", steps.drop()], lambda call: {"resume": Resume(on_resume=call)}),
}


@pytest.mark.parametrize(("script", "policies"), CALLBACKS.values(), ids=CALLBACKS)
def test_dispose_in_a_policy_callback_sends_no_further_request(
    script: Script, policies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Outcome] = []
    subscribed = threading.Event()

    def leave(*_: Any) -> None:
        subscribed.wait(BOUND)
        late_to_return(monkeypatch, lambda _: len(server.requests) == 2)
        subscription.dispose()

    with ScriptedServer(script, ["x", steps.done()]) as server, Mistral(server_url=server.url) as c:
        stream = ask(c, **policies(leave)).pipe(on_outcome(outcomes.append))
        subscription = stream.subscribe()
        subscribed.set()
        assert eventually(lambda: bool(outcomes) and not our_threads())
        assert [(outcome.status, outcome.requests) for outcome in outcomes] == [("cancelled", 1)]
        assert len(server.requests) == 1


@pytest.mark.parametrize(("script", "policies"), CALLBACKS.values(), ids=CALLBACKS)
def test_error_of_a_policy_callback_ends_the_stream(script: Script, policies: Any) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        stream = ask(client, **policies(fail))
        result = read(stream)
    assert isinstance(result.error, ZeroDivisionError)
    assert result.ended == 1
    assert stream.outcome is not None
    assert (stream.outcome.status, stream.outcome.requests) == ("failed", 1)


def test_error_of_an_outcome_callback_ends_the_stream() -> None:
    def fail(_: Outcome) -> None:
        raise ZeroDivisionError

    with ScriptedServer(["Hi", steps.done()]) as server, Mistral(server_url=server.url) as client:
        result = subscribed(ask(client), on_outcome(fail), 0)
    assert delivered_text(result.items) == "Hi"
    assert isinstance(result.error, ZeroDivisionError)
    assert result.ended == 1


OWN = [
    RequestError("of another call"),
    DroppedStreamError("of another call"),
    StatusError(429, {}, "of another call"),
]


@pytest.mark.parametrize("own", OWN, ids=lambda own: type(own).__name__)
def test_error_of_a_subscriber_is_not_retried_or_resumed(
    own: Exception,
) -> None:
    outcomes: list[Outcome] = []
    result, ended = Result(), threading.Event()

    def on_next(item: CompletionEvent) -> None:
        result.items.append(item)
        raise own

    def on_error(error: Exception) -> None:
        result.fail(error)
        ended.set()

    with ScriptedServer(lambda _: [steps.role(), "x", steps.done()]) as server:
        with Mistral(server_url=server.url) as client:
            stream = ask(client, retry=Retry(initial=0), resume=Resume())
            stream.pipe(on_outcome(outcomes.append)).subscribe(on_next, on_error)
            assert ended.wait(BOUND)
        assert len(server.requests) == 1
    assert result.error is own
    assert len(result.items) == 1
    assert [outcome.status for outcome in outcomes] == ["failed"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_subscriber_error_at_a_buffered_echo_ends_the_stream() -> None:
    result, ended = Result(), threading.Event()

    def on_next(item: CompletionEvent) -> None:
        result.items.append(item)
        if len(result.items) == 2:
            raise ZeroDivisionError

    def on_error(error: Exception) -> None:
        result.fail(error)
        ended.set()

    scripts: list[Script] = [["abc def", steps.drop()], [steps.thinking("Hm"), steps.done()]]
    limit = Limit(concurrent=1)
    with (
        ScriptedServer(*scripts, ["Hi", steps.done()]) as server,
        Mistral(server_url=server.url, limit=limit) as client,
    ):
        stream = ask(client, resume=Resume())
        subscription = stream.subscribe(on_next, on_error)
        assert eventually(lambda: len(result.items) == 2 and not our_threads())
        outcome = stream.outcome
        subscription.dispose()
        assert ended.is_set()
        assert outcome is not None
        assert delivered_text(read(ask(client)).items) == "Hi", "the slot is free again"


def test_on_resume_receives_the_latest_break() -> None:
    errors: list[BaseException] = []
    resume = Resume(2, on_resume=lambda error, _: errors.append(error))
    scripts: list[Script] = [["a", steps.drop()], ["b", steps.error("overloaded")]]
    scripts.append([steps.status(400, body={})])
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        result = read(ask(client, resume=resume))
    assert [type(error) for error in errors] == [DroppedStreamError, ReportedError]
    assert isinstance(result.error, ReportedError)


def test_partial_in_a_continuation_is_the_whole_answer_so_far() -> None:
    partials: list[str] = []

    def on_retry(error: BaseException, *_: Any) -> None:
        assert isinstance(error, StreamError)
        assert error.partial is not None
        partials.append(text_of(error.partial))

    scripts: list[Script] = [["abc ", steps.drop()], ["ab", steps.drop()], ["d", steps.done()]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        read(ask(client, retry=Retry(initial=0, on_retry=on_retry), resume=Resume()))
    assert partials == ["abc "]


def test_tool_call_cut_by_length_is_unfinished() -> None:
    half = steps.tool_call(id="1", name="f", arguments='{"x": ', index=0)
    script: Script = [half, steps.finish("length"), steps.done()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        stream = ask(client)
        read(stream)
    assert stream.outcome is not None
    (call,) = calls_of(stream.outcome.response)
    assert isinstance(call, UnfinishedToolCall)


def test_completed_outcome_has_no_error_as_finish_reason() -> None:
    scripts: list[Script] = [["a", steps.finish("error")], ["b", steps.done()]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        stream = ask(client, resume=Resume())
        result = read(stream)
    assert delivered_text(result.items) == "ab"
    assert stream.outcome is not None
    assert (stream.outcome.status, stream.outcome.finish_reason) == ("completed", None)


def test_operator_and_stream_report_the_same_usage() -> None:
    outcomes: list[Outcome] = []
    scripts: list[Script] = [["a", steps.usage(3, 1), steps.drop()], ["b", steps.done()]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        stream = ask(client, resume=Resume())
        subscribed(stream, on_outcome(outcomes.append), 0)
    assert stream.outcome is not None
    assert stream.outcome.usage == outcomes[0].usage


def test_usage_is_not_exact_after_a_failed_attempt() -> None:
    scripts: list[Script] = [[steps.usage(3, 0), steps.error("later")], ["b", steps.done()]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        stream = ask(client, retry=Retry(initial=0))
        read(stream)
    assert stream.outcome is not None
    assert not stream.outcome.usage_is_exact


def test_dispose_ends_the_pause_before_a_retry() -> None:
    pausing = threading.Event()
    outcomes: list[Outcome] = []
    retry = Retry(initial=600, maximum=600, max_elapsed=None, on_retry=lambda *_: pausing.set())
    with ScriptedServer([NO]) as server, Mistral(server_url=server.url) as client:
        stream = ask(client, retry=retry)
        subscription = stream.pipe(on_outcome(outcomes.append)).subscribe()
        assert pausing.wait(BOUND)
        subscription.dispose()
        assert eventually(lambda: not our_threads())
        assert stream.outcome is not None
        assert [each.status for each in (stream.outcome, *outcomes)] == ["cancelled"] * 2
        assert len(server.requests) == stream.outcome.requests == 1


# --- Limit -----------------------------------------------------------------------


def test_disposed_wait_for_a_slot_leaves_the_queue() -> None:
    limit = Limit(concurrent=1)
    served: list[str] = []
    go = threading.Event()

    def script(request: ReceivedRequest) -> Script:
        served.append(request.headers["X-Name"])
        go.wait(BOUND)
        return ["Hi", steps.done()]

    def subscribe(name: str) -> Any:
        stream = ask(client, http_headers={"X-Name": name})
        outcomes[name] = []
        return stream.pipe(on_outcome(outcomes[name].append)).subscribe()

    def queued(count: int) -> bool:
        return len(limit._waiting) == count

    outcomes: dict[str, list[Outcome]] = {}
    with ScriptedServer(script) as server, Mistral(server_url=server.url, limit=limit) as client:
        first = subscribe("first")
        server.wait_for_requests(1)
        waiting = {}
        for number, name in enumerate("abcd"):
            waiting[name] = subscribe(name)
            assert eventually(partial(queued, number + 1))
        for name in "bd":
            waiting[name].dispose()
            assert [each.status for each in outcomes[name]] == ["cancelled"]
            assert outcomes[name][0].requests == 0
        assert eventually(lambda: len(our_threads()) == 3)
        go.set()
        assert eventually(lambda: not our_threads())
        assert served == ["first", "a", "c"]
        first.dispose()
        assert delivered_text(read(ask(client, http_headers={"X-Name": "last"})).items) == "Hi"


class ConcurrencyCounter:
    """A service that counts the requests that it serves at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, request: ReceivedRequest) -> Script:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.003)  # so that others are served meanwhile, if they may be
        with self._lock:
            self._now -= 1
        tail: Script = [[steps.done()], [steps.drop()], [steps.error("later")]][request.number % 3]
        return ["Hi", steps.wait(0.001), *tail]


def test_clients_threads_and_tasks_share_one_limit() -> None:
    limit, counter = Limit(concurrent=3), ConcurrencyCounter()
    count = 0
    lock = threading.Lock()

    def one(client: Mistral, number: int) -> None:
        nonlocal count
        source = ask(client)
        subscription = source.subscribe(on_error=lambda _: None)
        if number % 4 == 0:
            subscription.dispose()
        assert eventually(lambda: source.outcome is not None)
        with lock:
            count += 1

    async def many(client: Mistral) -> None:
        async def each() -> None:
            nonlocal count
            result = await _async_breaking(ask(client), lambda stream: stream, -1)
            assert delivered_text(result.items) == "Hi"
            with lock:
                count += 1

        await asyncio.gather(*(each() for _ in range(20)))

    with (
        ScriptedServer(counter) as server,
        Mistral(server_url=server.url, limit=limit) as first,
        Mistral(server_url=server.url, limit=limit) as second,
    ):
        threads = [
            Thread(target=one, args=((first, second)[number % 2], number)) for number in range(20)
        ]
        for thread in threads:
            thread.start()
        run(many(first))
        for thread in threads:
            thread.join(BOUND)
        assert eventually(lambda: not our_threads())
        assert limit._free == 3, "every slot is free again"
    assert count == 40
    assert 1 <= counter.most <= 3


def test_per_minute_bounds_the_requests_of_any_minute() -> None:
    ahead = 0.0
    asked: list[float] = []
    sent: list[float] = []

    def now() -> float:
        return time.monotonic() + ahead

    def script(_: ReceivedRequest) -> Script:
        sent.append(now())
        return ["Hi", steps.done()]

    def ask_and_read() -> None:
        asked.append(now())
        read(ask(client))

    limit = Limit(per_minute=3, now=now)
    with ScriptedServer(script) as server, Mistral(server_url=server.url, limit=limit) as client:
        for _ in range(3):
            ask_and_read()
        ahead = 59.8 - (now() - asked[0])  # the rest of the minute passes in real time
        for _ in range(2):
            ask_and_read()
        ahead += 61
        ask_and_read()
    assert all(later - first >= 60 for first, later in zip(asked, sent[3:], strict=False))
    assert len(sent) == 6


def test_retry_after_pauses_all_users_of_a_limit() -> None:
    limit = Limit(concurrent=5)
    refusal = steps.status(429, body={}, headers={"retry-after-ms": "150"})
    answer: Script = ["Hi", steps.done()]
    with ScriptedServer([refusal], answer, answer, answer) as server:
        with Mistral(server_url=server.url, limit=limit) as client:
            result = read(ask(client))
            assert isinstance(result.error, StatusError)
            threads = [Thread(target=lambda: read(ask(client))) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(BOUND)
        refused, *others = server.requests
        assert len(others) == 3
        assert all(other.received - refused.received >= 0.15 for other in others)


def test_disposed_wait_to_send_does_not_delay_the_next() -> None:
    limit = Limit(concurrent=5)
    limit.pause_for(0.2)
    with ScriptedServer(["Hi", steps.done()]) as server:
        with Mistral(server_url=server.url, limit=limit) as client:
            first = ask(client).subscribe()
            assert eventually(lambda: len(limit._queue) == 1)
            results: list[Result] = []
            second = Thread(target=lambda: results.append(read(ask(client))))
            second.start()
            assert eventually(lambda: len(limit._queue) == 2)
            first.dispose()
            second.join(BOUND)
        assert delivered_text(results[0].items) == "Hi"
        assert len(server.requests) == 1


# --- programs --------------------------------------------------------------------

PROGRAM = """
import sys
from rxmistral import Mistral, Resume, Retry, text
client = Mistral(server_url=sys.argv[1], retry=Retry(initial=0.2), resume=Resume())
stream = client.chat.stream(model="m", messages=[{"role": "user", "content": "Hi"}])
stream.pipe(text()).subscribe(lambda piece: print(piece, end="", flush=True))
"""


def test_program_ending_in_subscribe_prints_the_whole_answer() -> None:
    scripts: list[Script] = [
        [NO],
        [steps.drop()],
        ["Hel", steps.drop()],
        [NO],
        ["Hel", "lo", steps.done()],
    ]
    with ScriptedServer(*scripts) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), server.url],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert len(server.requests) == len(scripts)
    assert (done.stdout, done.stderr, done.returncode) == (b"Hello", b"", 0)


def test_errors_do_not_contain_the_key() -> None:
    errors: list[BaseException] = []
    scripts: list[Script] = [
        [steps.status(429, body={"message": f"{KEY} is too fast"}, headers={"X-Key": KEY})],
        ["a", steps.error(f"{KEY} is too slow", code=KEY)],
        [steps.status(500, body=f"<p>{KEY}</p>")],
        [steps.status(401, body={"detail": f"{KEY} is unknown"})],
    ]
    retry = Retry(initial=0, on_retry=lambda error, *_: errors.append(error))
    resume = Resume(on_resume=lambda error, _: errors.append(error))
    with ScriptedServer(*scripts) as server, Mistral(KEY, server_url=server.url) as client:
        result = read(ask(client, retry=retry, resume=resume))
        assert len(server.requests) == 4
    assert isinstance(result.error, ReportedError)
    for error in (*errors, result.error):
        check_error(error)
        assert KEY not in "".join(traceback.format_exception(error))
