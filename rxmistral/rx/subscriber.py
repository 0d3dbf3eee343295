"""Subscriber: the observer of one subscription to a Stream, which ends exactly once.

    source ──▶ Subscriber ──▶ an operator ──▶ Subscriber ──▶ callbacks
               upstream                       its downstream

Like reactivex's AutoDetachObserver, it emits nothing after a terminal or after `dispose()`, and a
terminal disposes the subscription upstream.

Strategy: it also handles exceptions that AutoDetachObserver loses. A terminal stops each stage
that it passes. If a stage then flushes its buffer, and the flush raises further downstream, the
stopped stages upstream cannot carry the error: it would end at the source, and a loop at the
other end would wait forever. Therefore each Subscriber knows the next one downstream:

- An exception during a terminal is passed downstream as the error. If the next Subscriber has
  already ended, its own `on_error` or `on_completed` has raised the exception; then it is raised
  on the thread that emits.
- An exception during an item travels upstream to the emitting thread, which ends the stream with
  it. If a scheduler of reactivex has made the call, nothing upstream catches the exception; then
  the Subscriber passes it downstream.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import thread as futures
from functools import partial
from threading import local
from traceback import FrameSummary, extract_tb, format_exception_only, format_list
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import reactivex
from reactivex import abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.internal import noop

from ..checks import check_synchronous

__all__ = ["Subscriber", "is_reading", "report_unhandled", "reporting_unhandled", "subscribing"]

T = TypeVar("T")
P = ParamSpec("P")


class _Subscribing(local):
    subscriber: Subscriber[Any] | None = None


subscribing = _Subscribing()
"""`.subscriber`: the one whose source the current thread is subscribing to; see `Subscriber`."""


def is_reading(answer: object) -> bool:
    """Returns whether the current thread is subscribing to this answer, through a pipe."""
    subscriber = subscribing.subscriber
    return subscriber is not None and subscriber.answer is answer


class Subscriber(abc.ObserverBase[T], abc.DisposableBase):
    """The observer of one subscription, and its Disposable; see `Stream.subscribe`.

    Attributes:
        callback: The `on_next` that was passed to `subscribe`. A source may call it in place of
            `Subscriber.on_next` while it knows that the subscription is not disposed.
        is_stopped: Whether the subscription has ended or is disposed.
        answer: While it subscribes: the answer to which it subscribes, perhaps through a pipe.
        closing: While it subscribes: ends the operator that reads the answer, when disposed.
            None: the program reads it.
    """

    __slots__ = (
        "__weakref__",
        "_downstream",
        "_on_completed",
        "_on_error",
        "_raised",
        "_subscription",
        "answer",
        "callback",
        "closing",
        "is_stopped",
    )

    def __init__(
        self,
        on_next: abc.ObserverBase[T] | abc.OnNext[T] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
    ) -> None:
        if callable(getattr(on_next, "on_next", None)):
            observer: Any = on_next
            on_next, on_error = observer.on_next, observer.on_error
            on_completed = observer.on_completed
        self._downstream = downstream = subscribing.subscriber
        self.answer: object = None if downstream is None else downstream.answer
        self.closing: abc.DisposableBase | None = None if downstream is None else downstream.closing
        if downstream is None:  # the last stage: the callbacks of the program
            check_synchronous("on_next", on_next)
            check_synchronous("on_error", on_error)
            check_synchronous("on_completed", on_completed)
        self.callback: Any = on_next or noop
        self._on_error: abc.OnError = on_error or partial(_raise, _subscribing_line())
        self._on_completed: abc.OnCompleted = on_completed or noop
        self._subscription = SingleAssignmentDisposable()
        self._raised = 0  # id() of the latest exception from downstream
        self.is_stopped = False

    def subscribe_with(self, subscribe: Callable[[], object]) -> None:
        """Calls a function that subscribes to the source and returns its Disposable."""
        outer, subscribing.subscriber = subscribing.subscriber, self
        try:
            subscription: Any = subscribe()
        except Exception as error:
            if self.is_stopped:
                raise
            self.is_stopped = True
            self._on_error(error)
        else:
            if not hasattr(subscription, "dispose"):  # None or a function, which Rx allows
                subscription = Disposable(subscription)
            self._subscription.disposable = subscription
        finally:
            subscribing.subscriber = outer
            self.answer = self.closing = None

    def on_next(self, value: T) -> None:
        if not self.is_stopped:
            try:
                self.callback(value)
            except Exception as error:
                self._raised = id(error)
                if not _called_by_a_scheduler():
                    raise
                self.on_error(error)

    def on_error(self, error: Exception) -> None:
        if not self.is_stopped:
            # An exception from downstream that returns through the source remains the reason, even
            # if the flush of a stage raises again.
            reason = error if id(error) == self._raised else None
            downstream = self._downstream
            had_ended = downstream is not None and downstream.is_stopped
            self._end(partial(self._on_error, error), reason)
            if reason is None or downstream is None:
                return
            if had_ended:  # the terminal of `downstream` raised it, and nothing reported it
                raise reason
            if downstream._raised == id(reason):
                # `downstream` raised it; replay() and similar operators do not return it.
                downstream.on_error(reason)

    def on_completed(self) -> None:
        if not self.is_stopped:
            self._end(self._on_completed)

    def _end(self, emit_terminal: Callable[[], object], reason: Exception | None = None) -> None:
        self.is_stopped = True
        try:
            emit_terminal()
        except Exception as raised:
            self._pass_downstream(raised, reason)
        finally:
            try:
                self._subscription.dispose()
            except Exception as raised:  # for example by finally_action()
                self._pass_downstream(raised, reason)

    def _pass_downstream(self, raised: Exception, reason: Exception | None) -> None:
        downstream = self._downstream
        if downstream is None:  # subscribed later, as concat() does with its second source
            downstream = getattr(self._on_error, "__self__", None)
        if getattr(downstream, "is_stopped", True):  # or it is not a Subscriber
            if not _called_by_a_scheduler():
                raise raised
            report_unhandled(raised)
        elif downstream is not None:
            downstream.on_error(reason or raised)

    def dispose(self) -> None:
        self.is_stopped = True
        self._subscription.dispose()


# --- unhandled errors ---

_OWN_FOLDERS = tuple(
    os.path.dirname(os.path.abspath(file)) + os.sep
    for file in (os.path.dirname(__file__), reactivex.__file__, asyncio.__file__)
)
_REACTIVEX_FOLDER = _OWN_FOLDERS[1]
_SCHEDULER_CALLERS = (threading.__file__, asyncio.events.__file__, futures.__file__)


def _called_by_a_scheduler() -> bool:
    """Returns whether only reactivex lies between this call and the thread or event loop."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((__file__, _REACTIVEX_FOLDER)):
        frame = frame.f_back
    return frame is None or frame.f_code.co_filename in _SCHEDULER_CALLERS


def _is_of_program(filename: str) -> bool:
    return not filename.startswith(_OWN_FOLDERS) and filename != threading.__file__


def _subscribing_line() -> FrameSummary | None:
    """Returns the line of the program that subscribes, for the report of an error."""
    frame = inspect.currentframe()
    while frame is not None and not _is_of_program(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return None
    code = frame.f_code
    return FrameSummary(code.co_filename, frame.f_lineno, code.co_name, lookup_line=False)


def _raise(subscribed_at: FrameSummary | None, error: Exception) -> None:
    if subscribed_at is not None:
        place = format_list([subscribed_at])[0].rstrip()
        note = f"not handled: subscribed without on_error at\n{place}"
        error.__notes__ = [*getattr(error, "__notes__", ()), note]
    raise error


def report_unhandled(error: BaseException) -> None:
    """Reports an error to `threading.excepthook` if the program has set one; otherwise on stderr.

    On stderr, it shows the program's own lines only.
    """
    if threading.excepthook is not threading.__excepthook__:
        details = (type(error), error, error.__traceback__, threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(details))
    elif not isinstance(error, SystemExit) and sys.stderr is not None:
        frames = [each for each in extract_tb(error.__traceback__) if _is_of_program(each.filename)]
        raised_at = ["raised at\n", *format_list(frames)] if frames else []
        sys.stderr.write("".join([*format_exception_only(error), *raised_at]))


def reporting_unhandled(work: Callable[P, object]) -> Callable[P, None]:

    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except BaseException as error:  # nothing else would catch it
            report_unhandled(error)

    return run
