"""However an answer goes and wherever it breaks: one ending, one outcome, one text.

Random services are read in random ways. What must come of it is told by a model that is
written from the contract alone, and that knows no line of the library: it goes through
the requests that the server has seen, and says after each of them what may have come of
it, and whether there had to be another. Where the wire itself leaves it open how much
has arrived (a reset, a clock), the model goes on with all that is possible.

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
"""Seconds of a clock that is meant to run out."""

OVERTAKEN = int(os.environ.get("RXMISTRAL_OVERTAKEN", "0"))
"""Requests that may be sent by who was left already: none, when that is so of
`test_dispose_in_a_policy_callback_sends_no_further_request`."""

Thread = threading.Thread

# --- what a service does -------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """What goes over the wire at once, and what it means."""

    step: Step
    text: str = ""  # that it brings
    raw: str = ""  # the same, with what it repeats
    thinking: str = ""
    call: tuple[str, str] | None = None  # the name, and what it brings of the arguments
    finish: str = ""
    word: str = ""  # "done", "error"

    @property
    def useful(self) -> bool:
        return bool(self.raw or self.thinking or self.call)


@dataclass(frozen=True)
class Attempt:
    """What a service does with one request.

    `body` are the kinds of its frames, `tail` those at its end, `action` is what it does
    then. `echo` is how it repeats the text that it is to go on from.
    """

    refusal: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    silent: bool = False  # before the headers; then the action
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
    """How the pieces of a text are told apart: each is another, and blanks stand on one
    side of them only, so that it is never a matter of taste what is an echo."""

    before: str
    after: str

    def piece(self, attempt: int, number: int) -> str:
        letter = chr(ord("a") + attempt % 26)
        return f"{self.before}{letter}{attempt}.{number}é{self.after}"


def frames_of(attempt: Attempt, number: int, prefix: str | None, style: Style) -> list[Frame]:
    """What the attempt sends, as the `number`-th of its run."""
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
            return Frame(steps.error("overloaded, they said of " + KEY), word="error")
        case "refused":
            return Frame(steps.finish("error"), word="error")
        case _:
            return Frame(steps.finish(kind, usage=(3, at)), finish=kind)


def _call(name: str, arguments: str) -> Frame:
    """The call f7 has the index 7."""
    begins = arguments.startswith("{")
    step = steps.tool_call(
        id="call" + name if begins else None,
        name=name if begins else "",
        arguments=arguments,
        index=int(name[1:]),
    )
    return Frame(step, call=(name, arguments))


def _closing_calls(frames: list[Frame]) -> list[Frame]:
    """Every other call that begins is whole in the end."""
    closed: list[Frame] = []
    for frame in frames:
        closed.append(frame)
        if frame.call is not None and int(frame.call[0][1:]) % 2:
            closed.append(_call(frame.call[0], "1}"))
    return closed


def _echoing(frames: list[Frame], echo: str, prefix: str) -> list[Frame]:
    """The echo comes before the first text, and perhaps in one piece with it."""
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
        said: list[dict[str, Any]] = [{"type": "text", "text": rest}]
        if thinking:
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": thinking}]}
            said.insert(0, thought)
        frames[at] = replace(frames[at], step=steps.delta({"content": said}), raw=rest)
    return [*frames[:at], *(Frame(steps.text(each), raw=each) for each in before), *frames[at:]]


def script_of(attempt: Attempt, frames: list[Frame]) -> Script:
    if attempt.refusal:
        body = {"message": f"no, with the key {KEY}"}
        return [steps.status(attempt.refusal, body=body, headers=dict(attempt.headers))]
    act = {"end": steps.end, "drop": steps.drop, "abort": steps.abort, "hang": steps.hang}
    if attempt.silent:
        return [act[attempt.action]()]
    pause = [steps.wait(0.01)] if attempt.action == "abort" else []  # for what was sent to arrive
    return [steps.headers(), *(frame.step for frame in frames), *pause, act[attempt.action]()]


# --- what must come of it --------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """The policies of a call, as far as the model has to know them."""

    attempts: int = 1  # of Retry
    resumes: int = 0  # of Resume
    short: bool = False  # the clocks may run out at any moment


Calls = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class State:
    """What has come of the requests until now, and what counts for the next one."""

    text: str = ""
    thinking: str = ""
    calls: Calls = ()  # names and arguments
    finish: str = ""
    prefix: str | None = None  # that the next request has to bring
    failures: int = 0
    resumed: int = 0
    broken: frozenset[str] = frozenset()  # how those answers broke that were continued
    statuses: frozenset[str] = frozenset()  # that it may end with, once it has


@dataclass(frozen=True)
class Failure:
    """How an attempt failed."""

    status: str
    breaks: bool = True  # an answer that had begun
    repeatable: bool = True


Ending = tuple[int, Failure | None]
"""How many frames arrive, and what follows then; None where the answer is whole."""


def endings(attempt: Attempt, frames: list[Frame], short: bool) -> Iterator[Ending]:
    if short:
        yield 0, Failure("timed_out", breaks=False)
        yield from (_ending(frames[:count], "hang") for count in range(len(frames) + 1))
    if attempt.refusal:
        again = attempt.refusal == 429 or attempt.refusal >= 500
        yield 0, Failure("refused", breaks=False, repeatable=again)
    elif attempt.silent:
        yield 0, Failure("timed_out" if attempt.action == "hang" else "failed", breaks=False)
    elif attempt.action == "abort":  # a reset may overtake what was sent before it
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
    """What was emitted when these have come, and whether any of it was useful. What may be
    an echo is not emitted before it is certain whether it is one."""
    finish = next((frame.finish for frame in frames if frame.finish), "")
    came = "".join(frame.raw for frame in frames)
    prefix = state.prefix
    uncertain = prefix is not None and prefix.startswith(came) and prefix != came
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
    """The state that the next request begins with, or the last one."""
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
    """A request that the server has seen: the text it was to go on from, and what it got."""

    prefix: str | None
    attempt: Attempt
    frames: list[Frame]


def possible(seen: list[Seen], policy: Policy, *, left: bool) -> list[State]:
    """The states that these requests may have led to; where the stream was left, those on
    the way as well."""
    before = states = _with_unseen([State()], policy)
    for number, request in enumerate(seen):
        before = [
            state for state in states if not state.statuses and state.prefix == request.prefix
        ]
        assert before, f"request {number} should not have come, or not so: {request.prefix!r}"
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
    """And those after a request that a clock cut off before the server had it."""
    late = Failure("timed_out", breaks=False)
    unseen = [after(state, False, late, policy) for state in states if not state.statuses]
    return states + unseen if policy.short else states


def _following(before: list[State], request: Seen, policy: Policy) -> Iterator[State]:
    for state in before:
        for count, failure in endings(request.attempt, request.frames, policy.short):
            came, useful = arrived(state, request.frames[:count], failure is None)
            yield after(came, useful, failure, policy)


# --- how it is read --------------------------------------------------------------

Watch = Callable[[Any], Any]


@dataclass
class Came:
    """What a reader got."""

    items: list[CompletionEvent] = field(default_factory=list)
    error: BaseException | None = None
    ended: int = 0  # how often; a loop cannot end twice
    left: bool = False
    unwatched: bool = False  # nobody subscribed
    raised: bool = False

    def add(self, item: CompletionEvent) -> None:
        assert not self.ended
        self.items.append(item)

    def fail(self, error: Exception) -> None:
        self.error = error
        self.ended += 1

    def complete(self) -> None:
        self.ended += 1


Reading = Callable[[EventStream, Watch, int], Came]


def to_the_end(name: str) -> Reading:
    def read(source: EventStream, watch: Watch, _: int) -> Came:
        items = FACES[name](source.pipe(watch))
        error = items.pop() if items and isinstance(items[-1], BaseException) else None
        return Came(items, error, ended=1)

    return read


def subscribed(source: EventStream, watch: Watch, _: int) -> Came:
    came, ended = Came(), threading.Event()
    source.pipe(watch, ops.finally_action(ended.set)).subscribe(came.add, came.fail, came.complete)
    assert ended.wait(BOUND)
    return came


def within_with(source: EventStream, watch: Watch, _: int) -> Came:
    came = Came(ended=1)
    with source as opened:
        try:
            for item in opened.pipe(watch):
                came.items.append(item)
        except Exception as error:
            came.error = error
    return came


def after_its_response(source: EventStream, watch: Watch, _: int) -> Came:
    try:
        assert source.response.ok
    except Exception as error:
        return Came(error=error, ended=1, unwatched=True)
    return to_the_end("for")(source, watch, 0)


def its_response_alone(source: EventStream, watch: Watch, _: int) -> Came:
    came = Came(left=True, unwatched=True)
    with source:
        try:
            assert source.response.ok
        except Exception as error:
            came = Came(error=error, ended=1, unwatched=True)
    return came


def raising(source: EventStream, watch: Watch, count: int) -> Came:
    came, ended = Came(), threading.Event()

    def on_next(item: CompletionEvent) -> None:
        came.add(item)
        if len(came.items) >= count and said([item]):
            came.raised = came.left = True
            raise ZeroDivisionError

    source.pipe(watch, ops.finally_action(ended.set)).subscribe(on_next, came.fail, came.complete)
    assert ended.wait(BOUND)
    return came


def taking(source: EventStream, watch: Watch, count: int) -> Came:
    came, ended = Came(), threading.Event()
    source.pipe(watch, ops.take(count), ops.finally_action(ended.set)).subscribe(
        came.add, came.fail, came.complete
    )
    assert ended.wait(BOUND)
    came.left = len(came.items) == count
    return came


def disposing_inside(source: EventStream, watch: Watch, count: int) -> Came:
    came, ended, subscribed = Came(), threading.Event(), threading.Event()
    subscription: Any = None

    def on_next(item: CompletionEvent) -> None:
        came.add(item)
        if len(came.items) == count:
            assert subscribed.wait(BOUND)
            came.left = True
            subscription.dispose()

    subscription = source.pipe(watch, ops.finally_action(ended.set)).subscribe(
        on_next, came.fail, came.complete
    )
    subscribed.set()
    assert ended.wait(BOUND)
    assert not (came.left and came.ended)
    return came


def disposing_elsewhere(source: EventStream, watch: Watch, count: int) -> Came:
    came, enough = Came(left=True), threading.Event()

    def on_next(item: CompletionEvent) -> None:
        came.add(item)
        if len(came.items) == count:
            enough.set()

    subscription = source.pipe(watch, ops.finally_action(enough.set)).subscribe(
        on_next, came.fail, came.complete
    )
    if count > 1:
        assert enough.wait(BOUND)
    subscription.dispose()
    items, ended = len(came.items), came.ended
    assert eventually(lambda: not our_threads())
    assert len(came.items) <= items + 1, "more than one callback can not have been running"
    assert came.ended <= max(ended, 1)
    return came


def breaking(source: EventStream, watch: Watch, count: int) -> Came:
    came = Came(ended=1)
    try:
        for item in source.pipe(watch):
            came.items.append(item)
            if len(came.items) == count:
                came.left = True
                break
    except Exception as error:
        came.error = error
    return came


def breaking_out_of_with(source: EventStream, watch: Watch, count: int) -> Came:
    with source as opened:
        return breaking(opened, watch, count)


async def _async_breaking(source: EventStream, watch: Watch, count: int) -> Came:
    came = Came(ended=1)
    try:
        async for item in source.pipe(watch):
            came.items.append(item)
            if len(came.items) == count:
                came.left = True
                break
    except Exception as error:
        came.error = error
    return came


def breaking_out_of_async_for(source: EventStream, watch: Watch, count: int) -> Came:
    return run(_async_breaking(source, watch, count))


def cancelling_a_task(source: EventStream, watch: Watch, count: int) -> Came:
    came = Came(ended=1)

    async def read(enough: asyncio.Event) -> None:
        try:
            async for item in source.pipe(watch):
                came.items.append(item)
                if len(came.items) == count:
                    enough.set()
                    await asyncio.sleep(0)
        except Exception as error:
            came.error = error
        finally:
            enough.set()

    async def main() -> None:
        enough = asyncio.Event()
        task = asyncio.create_task(read(enough))
        await asyncio.wait_for(enough.wait(), BOUND)
        came.left = task.cancel()
        await asyncio.wait([task])

    run(main())
    return came


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


def said(items: list[CompletionEvent]) -> str:
    """The text of completions."""
    choices = [choice for item in items for choice in item.data.choices]
    return "".join(_text(choice.delta.content) for choice in choices)


def _text(content: Any) -> str:
    if not isinstance(content, list):
        return content or ""
    return "".join(part.text for part in content if isinstance(part, TextChunk))


def thought(response: ChatCompletionResponse) -> str:
    """The thinking of a response."""
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
class Run:
    """One call, and what the service does with its requests."""

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
    Run,
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
    """Answers as the runs of an example say, and remembers what it was asked."""

    def __init__(self, runs: list[Run], style: Style) -> None:
        self._runs = runs
        self._style = style
        self._lock = threading.Lock()
        self.server: ScriptedServer | None = None
        self.seen: list[list[Seen]] = [[] for _ in runs]
        self.overlaps = 0

    def __call__(self, request: ReceivedRequest) -> Script:
        assert self.server is not None
        server = self.server
        number = int(request.headers["X-Run"])
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
    runs: list[Run], style: Style, framing: Any, limit: tuple[int, int | None] | None
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
    """It changes: a type checker would take it for what it was."""
    return source.outcome


def check_run(client: Mistral, service: Service, number: int, each: Run) -> None:
    note(f"run {number}: {each}")
    told: list[BaseException] = []
    outcomes: list[Outcome] = []
    clock = SHORT if each.policy.short else BOUND
    retry = Retry(
        max(each.retry, 1),
        initial=0.001,
        maximum=0.002,
        on_retry=lambda error, *_: told.append(error),
    )
    resume = Resume(max(each.resume, 1), on_resume=lambda e, _: told.append(e))
    source = client.chat.stream(
        model="m",
        messages=[{"role": "user", "content": "?"}],
        http_headers={"X-Run": str(number)},
        timeouts=Timeouts(connect=BOUND, first=clock, gap=clock),
        retry=retry if each.retry else None,
        resume=resume if each.resume else None,
    )
    assert _outcome(source) is None
    began = time.monotonic()
    came = READINGS[each.reading](source, on_outcome(outcomes.append), each.count)
    if not came.left:
        assert came.ended == 1
        assert source.outcome is not None
    assert eventually(lambda: not our_threads())
    assert eventually(lambda: source.outcome is not None)
    assert came.unwatched or eventually(lambda: bool(outcomes))
    assert time.monotonic() - began < BOUND
    seen = service.seen[number]
    note(f"came: {came}\nseen: {seen}\noutcomes: {outcomes}\n{source.outcome}")

    assert len(outcomes) == (not came.unwatched)
    assert came.ended <= 1
    states = possible(seen, each.policy, left=came.left)
    assert source.outcome is not None
    for outcome in (source.outcome, *outcomes):
        check_outcome(outcome, came, states)
        check_requests(outcome, came, len(seen), each.policy)
    check_agreement(source.outcome, outcomes, came)
    for error in (*told, came.error, source.outcome.error):
        check_error(error)


def check_outcome(outcome: Outcome, came: Came, states: list[State]) -> None:
    response, delivered = outcome.response, said(came.items)
    agreeing = [
        state
        for state in states
        if state.text == text_of(response)
        and state.thinking == thought(response)
        and [name for name, _ in state.calls] == [each.function.name for each in calls_of(response)]
    ]
    if not agreeing and isinstance(came.error, RequestTimeoutError):
        return  # a clock ran out before the loaded machine had shown the server the request
    assert agreeing, f"{response} is not what came: {states}"
    check_calls(outcome, agreeing)
    if came.left:
        assert text_of(response).startswith(delivered)
        assert outcome.status != "completed" or any("completed" in s.statuses for s in states)
        if came.raised:
            assert (outcome.status, text_of(response)) == ("failed", delivered)
    else:
        assert came.unwatched or text_of(response) == delivered
        assert outcome.error is came.error
        if isinstance(came.error, StreamError):
            assert came.error.partial is not None
            assert text_of(came.error.partial) == text_of(response)
            assert thought(came.error.partial) == thought(response)
            assert calls_of(came.error.partial) == calls_of(response)
        assert any(outcome.status in state.statuses for state in agreeing)
        assert any(outcome.resumed == state.resumed for state in agreeing)
    check_figures(outcome, agreeing)


def check_requests(outcome: Outcome, came: Came, seen: int, policy: Policy) -> None:
    """A request may be cut off, by who leaves or by a clock, before the server has it."""
    if came.left or policy.short:
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


def check_agreement(outcome: Outcome, outcomes: list[Outcome], came: Came) -> None:
    """Where it was left while its end was on the way, the end may have come to the one of
    them already; but they never differ in anything else."""
    for other in outcomes:
        if came.left and not came.raised:
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


# --- one by one ------------------------------------------------------------------

HELLO = [{"role": "user", "content": "?"}]
NO = steps.status(503, body={"message": "later"})


def ask(client: Mistral, **policies: Any) -> EventStream:
    return client.chat.stream(model="m", messages=HELLO, **policies)


def read(source: EventStream) -> Came:
    """To the end, by a subscription."""
    return subscribed(source, lambda stream: stream, 0)


def late_to_return(
    monkeypatch: pytest.MonkeyPatch, until: Callable[[Thread], bool] = lambda reader: False
) -> None:
    """Have whoever starts the next reader be scheduled again only when that has ended, or
    this is so: the threads of a busy process run like that now and then."""
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
        came = read(stream)
    assert isinstance(came.error, ReportedError)
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
        came = read(stream)
    assert isinstance(came.error, ZeroDivisionError)
    assert came.ended == 1
    assert stream.outcome is not None
    assert (stream.outcome.status, stream.outcome.requests) == ("failed", 1)


def test_error_of_an_outcome_callback_ends_the_stream() -> None:
    def fail(_: Outcome) -> None:
        raise ZeroDivisionError

    with ScriptedServer(["Hi", steps.done()]) as server, Mistral(server_url=server.url) as client:
        came = subscribed(ask(client), on_outcome(fail), 0)
    assert said(came.items) == "Hi"
    assert isinstance(came.error, ZeroDivisionError)
    assert came.ended == 1


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
    came, ended = Came(), threading.Event()

    def on_next(item: CompletionEvent) -> None:
        came.items.append(item)
        raise own

    def on_error(error: Exception) -> None:
        came.fail(error)
        ended.set()

    with ScriptedServer(lambda _: [steps.role(), "x", steps.done()]) as server:
        with Mistral(server_url=server.url) as client:
            stream = ask(client, retry=Retry(initial=0), resume=Resume())
            stream.pipe(on_outcome(outcomes.append)).subscribe(on_next, on_error)
            assert ended.wait(BOUND)
        assert len(server.requests) == 1
    assert came.error is own
    assert len(came.items) == 1
    assert [outcome.status for outcome in outcomes] == ["failed"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_subscriber_error_at_a_buffered_echo_ends_the_stream() -> None:
    came, ended = Came(), threading.Event()

    def on_next(item: CompletionEvent) -> None:
        came.items.append(item)
        if len(came.items) == 2:
            raise ZeroDivisionError

    def on_error(error: Exception) -> None:
        came.fail(error)
        ended.set()

    scripts: list[Script] = [["abc def", steps.drop()], [steps.thinking("Hm"), steps.done()]]
    limit = Limit(concurrent=1)
    with (
        ScriptedServer(*scripts, ["Hi", steps.done()]) as server,
        Mistral(server_url=server.url, limit=limit) as client,
    ):
        stream = ask(client, resume=Resume())
        subscription = stream.subscribe(on_next, on_error)
        assert eventually(lambda: len(came.items) == 2 and not our_threads())
        outcome = stream.outcome
        subscription.dispose()
        assert ended.is_set()
        assert outcome is not None
        assert said(read(ask(client)).items) == "Hi", "the slot is free again"


def test_on_resume_receives_the_latest_break() -> None:
    told: list[BaseException] = []
    resume = Resume(2, on_resume=lambda error, _: told.append(error))
    scripts: list[Script] = [["a", steps.drop()], ["b", steps.error("overloaded")]]
    scripts.append([steps.status(400, body={})])
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        came = read(ask(client, resume=resume))
    assert [type(error) for error in told] == [DroppedStreamError, ReportedError]
    assert isinstance(came.error, ReportedError)


def test_partial_in_a_continuation_is_the_whole_answer_so_far() -> None:
    told: list[str] = []

    def on_retry(error: BaseException, *_: Any) -> None:
        assert isinstance(error, StreamError)
        assert error.partial is not None
        told.append(text_of(error.partial))

    scripts: list[Script] = [["abc ", steps.drop()], ["ab", steps.drop()], ["d", steps.done()]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        read(ask(client, retry=Retry(initial=0, on_retry=on_retry), resume=Resume()))
    assert told == ["abc "]


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
        came = read(stream)
    assert said(came.items) == "ab"
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
        assert said(read(ask(client, http_headers={"X-Name": "last"})).items) == "Hi"


class Crowd:
    """Counts who is served at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, request: ReceivedRequest) -> Script:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.003)  # so that others come meanwhile, if they may
        with self._lock:
            self._now -= 1
        tail: Script = [[steps.done()], [steps.drop()], [steps.error("later")]][request.number % 3]
        return ["Hi", steps.wait(0.001), *tail]


def test_clients_threads_and_tasks_share_one_limit() -> None:
    limit, crowd = Limit(concurrent=3), Crowd()
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
            came = await _async_breaking(ask(client), lambda stream: stream, -1)
            assert said(came.items) == "Hi"
            with lock:
                count += 1

        await asyncio.gather(*(each() for _ in range(20)))

    with (
        ScriptedServer(crowd) as server,
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
    assert 1 <= crowd.most <= 3


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
        ahead = 59.8 - (now() - asked[0])  # and the rest of the minute as it goes
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
            came = read(ask(client))
            assert isinstance(came.error, StatusError)
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
            foremost = ask(client).subscribe()
            assert eventually(lambda: len(limit._queue) == 1)
            came: list[Came] = []
            second = Thread(target=lambda: came.append(read(ask(client))))
            second.start()
            assert eventually(lambda: len(limit._queue) == 2)
            foremost.dispose()
            second.join(BOUND)
        assert said(came[0].items) == "Hi"
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
    told: list[BaseException] = []
    scripts: list[Script] = [
        [steps.status(429, body={"message": f"{KEY} is too fast"}, headers={"X-Key": KEY})],
        ["a", steps.error(f"{KEY} is too slow", code=KEY)],
        [steps.status(500, body=f"<p>{KEY}</p>")],
        [steps.status(401, body={"detail": f"{KEY} is unknown"})],
    ]
    retry = Retry(initial=0, on_retry=lambda error, *_: told.append(error))
    resume = Resume(on_resume=lambda error, _: told.append(error))
    with ScriptedServer(*scripts) as server, Mistral(KEY, server_url=server.url) as client:
        came = read(ask(client, retry=retry, resume=resume))
        assert len(server.requests) == 4
    assert isinstance(came.error, ReportedError)
    for error in (*told, came.error):
        check_error(error)
        assert KEY not in "".join(traceback.format_exception(error))
