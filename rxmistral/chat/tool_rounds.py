"""The history of a run: rounds of an answer, its tool calls, and their results.

    begin() ──▶ end_answer() ──▶ record() ... ──▶ end_round() ──▶ begin() ... or complete()
    end(), at any moment

Mistral refuses a history in which a tool call has no result, two results, or an id that another
call has; a result without a call; and an assistant message without content and calls. So calls and
results enter together: until a call is answered, the history contains a substitute.

Strategy: a plain state machine. Its lock makes it safe to end the run, and to read the history,
from any thread while a tool returns; after the end the history never changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from threading import RLock
from typing import Any
from uuid import uuid4

from msgspec import UNSET

from ..completions.accumulator import texts_in
from ..models import AssistantMessage, ToolCall, ToolMessage
from ..rx.threads import fork_safe
from .history import with_closed_thinking
from .request import AnyMessage

__all__ = ["NOT_RUN", "ToolRounds"]

_CANCELLED = "cancelled"
NOT_RUN = "not run: round limit"
_ID_LENGTH = 9  # Mistral requires 9 letters and digits


class ToolRounds:
    """The rounds of one run.

    Args:
        messages: The conversation before the run.
        declared: The names of the tools that the program runs itself: a call of one of them
            ends the run, and stays open.
        max_rounds: The largest number of rounds.
    """

    def __init__(
        self, messages: Iterable[AnyMessage], declared: Collection[str], max_rounds: int
    ) -> None:
        self.number = 0  # of the round, from 1
        self.is_over = False
        self.has_reached_limit = False  # the last round has calls, which did not run
        self._declared = declared
        self._max_rounds = max_rounds
        self._messages = list(messages)  # of the rounds that have ended
        self._ids = set(_call_ids(self._messages))
        self._answer: list[AnyMessage] = []  # of this round, once it has ended; at most one
        self._calls: list[ToolCall] = []  # of this round
        self._results: dict[str, str] = {}  # by the ids of the calls
        self._is_answering = False
        self._lock = fork_safe(RLock())  # reentrant, since garbage collection may end a run

    @property
    def messages(self) -> list[AnyMessage]:
        """The history, valid at any moment; a running answer is not part of it."""
        with self._lock:
            substitute = None if self.open_calls else _CANCELLED
            return [*self._messages, *self._answer, *self._tool_messages(substitute)]

    @property
    def open_calls(self) -> list[ToolCall]:
        """The calls of a run that has ended which the program has to answer."""
        return [call for call in self._calls if self.is_over and not self._has_result(call)]

    @property
    def is_waiting(self) -> bool:
        """Whether a call that runs here has no result yet."""
        return any(not self._has_result(call) for call in self._calls_to_run())

    def choose_id(self, call_id: str | None) -> str:
        """Returns the id of a call that begins: its own, unless it is missing or not unique."""
        if not call_id or call_id == "null" or call_id in self._ids:
            call_id = uuid4().hex[:_ID_LENGTH]
        self._ids.add(call_id)
        return call_id

    def begin(self) -> list[AnyMessage] | None:
        """Begins a round; returns the messages to send, or None if the run has ended."""
        with self._lock:
            if self.is_over:
                return None
            self.number += 1
            self._is_answering = True
            return list(self._messages)

    def end_answer(
        self, message: AssistantMessage | None, calls: list[ToolCall]
    ) -> list[ToolCall] | None:
        """Adds a whole answer.

        Returns:
            The calls to run, or None if the run has ended.
        """
        with self._lock:
            if self.is_over:
                return None
            self._add_answer(message, calls)
            to_run = self._calls_to_run()
            if self.number == self._max_rounds and to_run and len(to_run) == len(calls):
                self.has_reached_limit = True
                self._results = {str(call.id): NOT_RUN for call in to_run}
                return []
            return to_run

    def record(self, call: ToolCall, result: str) -> bool:
        """Adds the result of a call; returns False if it is too late, or has one already."""
        with self._lock:
            if call not in self._calls or self._has_result(call):
                return False
            self._results[str(call.id)] = result
            return True

    def end_round(self) -> bool:
        """Ends a round in which all calls have ended; returns whether another round follows."""
        with self._lock:
            if self.is_over:
                return False
            follows = bool(self._calls) and not self.has_reached_limit
            if len(self._results) < len(self._calls):  # the program answers the others
                return False
            self._settle()
            self.is_over = not follows
            return follows

    def complete(self) -> None:
        """Ends the run after its last round; the calls that the program answers stay open."""
        with self._lock:
            self.is_over = True

    def end(self, message: AssistantMessage | None = None, calls: Iterable[ToolCall] = ()) -> None:
        """Ends the run now; has no effect on a run that has ended.

        Args:
            message: What was received of the running answer.
            calls: The calls in it that are complete.
        """
        with self._lock:
            if self.is_over:
                return
            if self._is_answering:
                self._add_answer(_cut(message), list(calls))
            self._settle()
            self.is_over = True

    def _add_answer(self, message: AssistantMessage | None, calls: list[ToolCall]) -> None:
        self._is_answering = False
        self._calls = calls
        content = None if message is None or not _has_text(message) else message.content
        if calls or content:
            answer = AssistantMessage(content=content or "", tool_calls=calls or UNSET)
            self._answer = [with_closed_thinking(answer)]

    def _settle(self) -> None:
        """Moves the round into the past; calls without a result get a substitute."""
        self._messages += [*self._answer, *self._tool_messages(_CANCELLED)]
        self._answer, self._calls, self._results = [], [], {}

    def _tool_messages(self, substitute: str | None) -> Iterator[ToolMessage]:
        for call in self._calls:
            result = self._results.get(str(call.id), substitute)
            if result is not None:
                name = call.function.name or UNSET
                yield ToolMessage(content=result, tool_call_id=call.id or UNSET, name=name)

    def _calls_to_run(self) -> list[ToolCall]:
        return [call for call in self._calls if call.function.name not in self._declared]

    def _has_result(self, call: ToolCall) -> bool:
        return str(call.id) in self._results


def _has_text(message: AssistantMessage) -> bool:
    """Returns whether a message says something: thinking alone, or white space, is no answer."""
    content = message.content or ""
    if isinstance(content, str):
        return bool(content.strip())
    return bool("".join(texts_in([list(content)])).strip())


def _cut(message: AssistantMessage | None) -> AssistantMessage | None:
    """Returns the text of an answer that was cut: Mistral accepts no part of its thinking."""
    content = (message and message.content) or ""
    text = content if isinstance(content, str) else "".join(texts_in([list(content)]))
    return AssistantMessage(content=text)


def _call_ids(messages: Iterable[AnyMessage]) -> Iterator[str]:
    for message in messages:
        calls: Any = (
            message.get("tool_calls")
            if isinstance(message, Mapping)
            else getattr(message, "tool_calls", None)
        )
        for call in calls or ():
            call_id = call.get("id") if isinstance(call, Mapping) else call.id
            if isinstance(call_id, str):
                yield call_id
