"""RunStream, the Stream of a run: answers, and the tool calls between them.

    answer ──▶ parts ──────────────────────────────────────────▶ observer
                └─ complete calls ──▶ map_async(run a call) ──▶ results ──▶ observer
                                                                   └─ next answer

Strategy: an answer and the tools of its round never emit at the same time: the calls start when
the answer has completed, and the next answer starts when the last call has a result. `map_async`
has one subscription for the whole run, made by the subscriber: so it finds the subscriber's event
loop, and a loop of its own lives from round to round. Every ending passes through it, too, since it
knows when the last task has ended. `ToolRounds` decides which calls run, and what the history is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from threading import Event, RLock
from typing import Any, Self

from msgspec import Struct
from reactivex import Subject, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable
from reactivex.internal import noop
from reactivex.scheduler import VirtualTimeScheduler

from ..checks import check_callable, check_integer
from ..completions.parts import (
    AnswerEnded,
    Part,
    PartSplitter,
    ToolCallReady,
)
from ..completions.tool_parts import RoundEnded, ToolFailed, ToolProgress, ToolReturned
from ..errors import RoundLimitError, described
from ..models import AssistantMessage, CompletionEvent, Tool, ToolCall
from ..outcome import Outcome, Status, status_of
from ..rx.answer_stream import AnswerStream
from ..rx.backpressure import running_loop
from ..rx.map_async import map_async
from ..rx.stream import Stream
from ..rx.threads import SubscriptionScope, add_to_scope, detached_scope, fork_safe
from .event_stream import EventStream
from .part_stream import PartStream
from .request import AnyMessage, with_messages
from .run_outcome import total_outcome
from .settings import Call, StreamOptions
from .tool_rounds import NOT_RUN, ToolRounds
from .tool_runner import Approve, ToolPart, ToolRunner
from .tools import FunctionTool, tool

__all__ = ["RunPlan", "RunStream", "new_run"]

_MAX_TOOL_SECONDS = 1.0  # of real time; a limit, as a tool may itself wait for virtual time


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The plan of a run: its first request, and its tools."""

    call: Call
    messages: list[AnyMessage]
    functions: Mapping[str, FunctionTool[..., Any]]
    declared: frozenset[str]
    max_rounds: int
    max_concurrency: int
    approve: Approve | None


class RunStream(PartStream, AnswerStream[Part]):
    """A cold Stream of the parts of a run, which each subscription starts.

    ```python
    for token in client.chat.run(model=..., messages=[...], tools=[weather]).text():
        print(token, end="", flush=True)
    ```
    """

    def __init__(self, plan: RunPlan) -> None:
        super().__init__()
        self._plan = plan
        self._latest: _Run | None = None

    def __repr__(self) -> str:
        if self._latest is None:
            state = "not started"
        else:
            outcome = self._latest.outcome
            state = "running" if outcome is None else outcome.status
        return f"<{type(self).__name__} model={self._plan.call.model!r:.100}, {state}>"

    @property
    def messages(self) -> list[AnyMessage]:
        """The whole history of the latest run: the messages of the call, and those of the rounds.

        It can be sent again at any moment: tool calls without a result are answered
        "cancelled". Calls of tools that were only declared are open when the run has ended.
        """
        return self._plan.messages[:] if self._latest is None else self._latest.rounds.messages

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the latest run.

        It is the outcome of the last answer, with the usage and the requests of all answers;
        `tool_calls` contains the calls that the program has to answer.
        """
        return None if self._latest is None else self._latest.outcome

    def of_conversation(self, conversation_id: str) -> Self:
        """Makes this a run of the conversation with this id, for telemetry; returns the run."""
        call = replace(self._plan.call, conversation_id=conversation_id)
        self._plan = replace(self._plan, call=call)
        return self

    def __enter__(self) -> Self:
        opened = super().__enter__()
        self._latest = None
        return opened

    def _subscribe_source(
        self, observer: abc.ObserverBase[Part], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        self._latest = run = _Run(self._plan, observer, scheduler)
        self._live.add(run)
        add_to_scope(run)
        run.start()
        return run


class _Run(abc.DisposableBase):
    """One run; also the Disposable of its subscription."""

    def __init__(
        self,
        plan: RunPlan,
        observer: abc.ObserverBase[Part],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        self.rounds = ToolRounds(plan.messages, plan.declared, plan.max_rounds)
        self._plan = plan
        self._scheduler = scheduler
        self._emit, self._fail = observer.on_next, observer.on_error
        self._complete = observer.on_completed
        self._context = copy_context()  # of the subscriber, for the answers of later rounds
        self._answer: EventStream | None = None  # the one that is running
        self._answer_calls: list[ToolCall] = []
        self._answers: list[EventStream] = []  # of all rounds
        self._ending: tuple[Exception | None, Status] | None = None
        self._outcome: Outcome | None = None  # once all answers have one
        self._answer_subscription = SerialDisposable()
        self._calls: Subject[ToolCall] = Subject()
        self._tools_subscription = SingleAssignmentDisposable()
        self._is_over = False
        self._goes_on = Event()  # after the latest answer: the next one has begun, or the run ended
        self._lock = fork_safe(RLock())  # reentrant, since garbage collection may dispose

    @property
    def outcome(self) -> Outcome | None:
        if self._outcome is None and self._ending is not None:
            known = [each.outcome for each in self._answers if each.outcome is not None]
            outcome = total_outcome(known, *self._ending, self.rounds.open_calls) if known else None
            # Another thread may be subscribing to the last answer, which then ends a little later.
            if len(known) < len(self._answers):
                return outcome
            self._outcome = outcome
        return self._outcome

    def start(self) -> None:
        plan = self._plan
        run_call = ToolRunner(plan.functions, plan.approve, plan.call.telemetry).run
        results: Stream[ToolPart] = Stream.of(self._calls).pipe(
            map_async(run_call, plan.max_concurrency, ordered=False)
        )
        self._tools_subscription.disposable = results.subscribe(
            self._on_tool_part, self._end, self._end, scheduler=self._scheduler
        )
        self._begin_round()

    # --- a round ---

    def _begin_round(self) -> None:
        with self._lock:
            messages = self.rounds.begin()
            if messages is None:
                return
            call = self._plan.call
            if self.rounds.number > 1:
                call = replace(call, body=with_messages(call.body, messages))
            self._answer = answer = EventStream(call)
            self._answers.append(answer)
        splitter = PartSplitter(choose_id=self.rounds.choose_id)

        def on_next(event: CompletionEvent) -> None:
            self._emit_parts(splitter.feed(event))

        def on_error(error: Exception) -> None:
            self._goes_on.clear()
            self._calls.on_error(error)
            self._hold_virtual_time()

        def on_completed() -> None:
            self._goes_on.clear()
            try:
                self._emit_parts(splitter.close())
                self._end_answer()
            except Exception as error:
                if self._is_over:  # of a callback that received the end
                    raise
                self._calls.on_error(error)
            self._hold_virtual_time()

        # Assigned before it begins: it may end, and be disposed, before subscribe() returns here.
        subscription = SubscriptionScope()
        self._answer_subscription.disposable = subscription
        subscribe = partial(answer.subscribe, on_next, on_error, on_completed)
        with detached_scope(subscription):
            subscription.add(self._context.copy().run(subscribe))
        self._goes_on.set()

    def _emit_parts(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, ToolCallReady):
                self._answer_calls.append(part.call)
            self._emit(part)

    def _end_answer(self) -> None:
        with self._lock:
            message, calls = self._take_answer()
            to_run = self.rounds.end_answer(message, calls)
        if self.rounds.has_reached_limit:
            for call in calls:
                self._emit(ToolFailed(call, NOT_RUN))
        for call in to_run or ():
            self._calls.on_next(call)
        if to_run == []:
            self._end_round()

    def _on_tool_part(self, part: ToolPart) -> None:
        if isinstance(part, ToolProgress):
            self._emit(part)
            return
        text = part.content if isinstance(part, ToolReturned) else part.message
        if self.rounds.record(part.call, text):
            self._emit(part)
            if not self.rounds.is_waiting:
                self._end_round()

    def _end_round(self) -> None:
        number, follows = self.rounds.number, self.rounds.end_round()
        self._emit(RoundEnded(number))
        if follows:
            self._begin_round()
        elif self.rounds.has_reached_limit:
            error = RoundLimitError(self.rounds.messages, self._plan.max_rounds)
            self._calls.on_error(error)
        else:
            self._calls.on_completed()

    def _hold_virtual_time(self) -> None:
        """Waits for the tools, as virtual time must not pass while they take real time."""
        is_virtual = isinstance(self._plan.call.scheduler, VirtualTimeScheduler)
        if is_virtual and running_loop() is None:  # otherwise the tools need this thread
            self._goes_on.wait(_MAX_TOOL_SECONDS)

    # --- the end ---

    def _end(self, error: Exception | None = None) -> None:
        """Ends the run, and emits its end; called when the last task of its tools has ended."""
        emit, fail, complete = self._emit, self._fail, self._complete
        if not self._stop(error, status_of(error)):
            return
        outcome = self.outcome
        reason, usage = (None, None) if outcome is None else (outcome.finish_reason, outcome.usage)
        description = None if error is None else described(error)
        try:
            emit(AnswerEnded(status_of(error), reason, usage, description))
        except Exception as raised:
            error = error or raised
        try:
            if error is None:
                complete()
            else:
                fail(error)
        finally:
            self._goes_on.set()

    def dispose(self) -> None:
        self._stop(None, "cancelled")
        self._goes_on.set()

    def _stop(self, error: Exception | None, status: Status) -> bool:
        """Stops everything, and settles the history; returns whether the run had not ended."""
        with self._lock:
            if self._is_over:
                return False
            self._is_over = True
            if status == "completed":  # now, since a reader that leaves may read the history
                self.rounds.complete()
            self._ending = error, status
        self._answer_subscription.dispose()
        self._tools_subscription.dispose()
        with self._lock:
            self.rounds.end(*self._take_answer())
        # Breaks the reference cycles through this object, which is kept for its history.
        self._emit = self._fail = self._complete = noop
        return True

    def _take_answer(self) -> tuple[AssistantMessage | None, list[ToolCall]]:
        """Returns the message of the answer that has ended, and its complete calls; once."""
        answer, self._answer = self._answer, None
        calls, self._answer_calls = self._answer_calls, []
        outcome = None if answer is None else answer.outcome
        return None if outcome is None else outcome.message, calls


# --- the arguments ---


def new_run(
    make_call: Callable[[str, Iterable[AnyMessage], StreamOptions], Call],
    model: str,
    messages: Iterable[AnyMessage],
    options: StreamOptions,
    max_rounds: int,
    max_concurrency: int,
    approve: Approve | None,
) -> RunStream:
    """Returns the run that `chat.run` describes, after it has checked the arguments."""
    check_integer("max_rounds", max_rounds)
    check_integer("max_concurrency", max_concurrency)
    if approve is not None:
        check_callable("approve", approve)
    tools = _made_tools(options.get("tools"))
    functions, declared = _tools_by_name(tools)
    listed = _listed(messages)
    if "tools" in options:
        options = {**options, "tools": tools}
    call = make_call(model, listed, options)
    return RunStream(
        RunPlan(call, listed, functions, declared, max_rounds, max_concurrency, approve)
    )


def _listed(values: Any) -> Any:
    """Returns an iterable as a list, since a run reads it more than once.

    Anything that is not iterable is returned as it is, and refused later.
    """
    is_single = isinstance(values, (str, bytes, Mapping, Struct))
    return list(values) if isinstance(values, Iterable) and not is_single else values


def _made_tools(tools: Any) -> Any:
    """Returns tools of which those that are functions have become Tools."""
    tools = _listed(tools)
    if not isinstance(tools, list):
        return tools
    is_other = (Struct, Mapping, type)
    return [tool(e) if callable(e) and not isinstance(e, is_other) else e for e in tools]


def _tools_by_name(tools: Any) -> tuple[dict[str, FunctionTool[..., Any]], frozenset[str]]:
    """Returns the tools that have a function, by name, and the names of the others.

    Raises:
        ValueError: Two tools have the same name.
    """
    functions: dict[str, FunctionTool[..., Any]] = {}
    declared: set[str] = set()
    for each in tools if isinstance(tools, list) else ():
        name = _name_of(each)
        if name in functions or name in declared:
            raise ValueError(f"two tools have the name {name!r}; give tool(function, name=...)")
        if isinstance(each, FunctionTool):
            functions[each.function.name] = each
        elif name is not None:
            declared.add(name)
    return functions, frozenset(declared)


def _name_of(each: object) -> str | None:
    """Returns the name of a function tool; tools that the service runs have none."""
    if isinstance(each, Tool):
        return each.function.name
    function = each.get("function") if isinstance(each, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None
