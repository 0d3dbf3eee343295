"""Runs to relay: completions written by hand, and a run that can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxmistral import (
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    DeltaMessage,
    FunctionCall,
    Stream,
    ToolCall,
)
from rxmistral.rx.history import Entry


def completion(
    content: Any = None, *calls: ToolCall, finish: str | None = None, choice: int | None = 0
) -> CompletionEvent:
    delta = DeltaMessage(content=content, tool_calls=list(calls) or None)
    one = CompletionResponseStreamChoice(index=choice, delta=delta, finish_reason=finish)
    return CompletionEvent(data=CompletionChunk(id="a1", created=1, choices=[one]))


def call(
    arguments: Any = None, name: str | None = None, id: str | None = None, index: int | None = 0
) -> ToolCall:
    return ToolCall(id=id, index=index, function=FunctionCall(name=name, arguments=arguments))


class RecordedRun:
    """A resumable run that continues without subscribers and stores all of its items."""

    def __init__(self, source: Observable[Any]) -> None:
        self._lock = RLock()
        self._entries: list[Entry[Any]] = []
        self._emit_terminal: Callable[[abc.ObserverBase[Any]], None] | None = None
        self._observers: dict[abc.ObserverBase[Any], int] = {}
        self._subscription = source.subscribe(
            self._append, lambda error: self.end(error), lambda: self.end(None)
        )

    def _append(self, item: Any) -> None:
        with self._lock:
            self._entries.append(Entry(len(self._entries) + 1, item))
            for observer, after in list(self._observers.items()):
                if len(self._entries) > after:
                    observer.on_next(self._entries[-1])

    def end(self, error: Exception | None) -> None:
        with self._lock:
            if self._emit_terminal is None:
                self._emit_terminal = lambda observer: (
                    observer.on_completed() if error is None else observer.on_error(error)
                )
                for observer in list(self._observers):
                    self._emit_terminal(observer)
        if error is not None:
            self._subscription.dispose()

    @property
    def ended(self) -> bool:
        return self._emit_terminal is not None

    def entries(self, after: int = 0) -> Stream[Entry[Any]]:
        def subscribe(
            observer: abc.ObserverBase[Entry[Any]], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            with self._lock:
                for entry in self._entries[after:]:
                    observer.on_next(entry)
                if self._emit_terminal is not None:
                    self._emit_terminal(observer)
                self._observers[observer] = after
            return Disposable(lambda: self._observers.pop(observer, None))

        return Stream(subscribe)
