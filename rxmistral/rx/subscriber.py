"""Subscriber: what one subscription to a Stream receives, and its ending, which comes exactly once.

    source ──▶ Subscriber ──▶ an operator ──▶ Subscriber ──▶ callbacks
               `upstream`                     its `downstream`

Each stage of a pipe has one. It does what reactivex's AutoDetachObserver does: nothing is
emitted after a terminal or `dispose()`, and a terminal disposes what is above.

And it closes a gap. A terminal passes the stages from the source down, and each stage is
stopped when the terminal has passed it. If a stage then flushes what it had buffered, and
anything further down raises, the stages above can carry no error any more: the exception
would travel up to the source, and a loop at the other end would wait forever. So a stage
knows the one below it. An exception that comes out of a terminal is passed down as the
error, unless the stage below has already had its terminal: then it was raised by the
subscriber's own `on_error` or `on_completed`, and belongs to the thread that emits.

An exception out of an item travels up to whoever emits, which ends the stream with it. Where a
scheduler of reactivex has called, on a thread or an event loop, nothing does that: then the
stage that it came out of passes it down.
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

__all__ = ["Subscriber", "fail_observer", "report_unhandled", "reporting_unhandled"]

T = TypeVar("T")
P = ParamSpec("P")


class _Subscribing(local):
    subscriber: Subscriber[Any] | None = None


_subscribing = _Subscribing()
"""`.subscriber`: whose source this thread subscribes to at the moment."""


class Subscriber(abc.ObserverBase[T], abc.DisposableBase):
    """Passes the items of one subscription on, and its one terminal; also its Disposable.

    Args:
        on_next, on_error, on_completed: As for `Observable.subscribe`; the first may be
            an observer. Without `on_error` an error is raised on the thread that emits.

    Raises:
        TypeError: A callback is a coroutine function, which would never be awaited.
    """

    __slots__ = (
        "__weakref__",
        "_downstream",
        "_on_completed",
        "_on_error",
        "_on_next",
        "_raised",
        "_subscription",
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
        self._downstream = _subscribing.subscriber
        if self._downstream is None:  # of a pipe, the program's own end
            check_synchronous("on_next", on_next)
            check_synchronous("on_error", on_error)
            check_synchronous("on_completed", on_completed)
        self._on_next: Any = on_next or noop
        self._on_error: abc.OnError = on_error or partial(_raise, _place_of_caller())
        self._on_completed: abc.OnCompleted = on_completed or noop
        self._subscription = SingleAssignmentDisposable()
        self._raised = 0  # the id() of what was last raised below
        self.is_stopped = False

    def subscribe_with(self, subscribe: Callable[[], object]) -> None:
        """Subscribe to the source, by a function that returns the Disposable of that."""
        outer, _subscribing.subscriber = _subscribing.subscriber, self
        try:
            subscription: Any = subscribe()
        except Exception as error:
            if self.is_stopped:
                raise
            self.is_stopped = True
            self._on_error(error)
        else:
            if not hasattr(subscription, "dispose"):  # None, or a function, as Rx allows
                subscription = Disposable(subscription)
            self._subscription.disposable = subscription
        finally:
            _subscribing.subscriber = outer

    def on_next(self, value: T) -> None:
        if not self.is_stopped:
            try:
                self._on_next(value)
            except Exception as error:
                self._raised = id(error)
                if not _called_by_a_scheduler():
                    raise
                self.on_error(error)

    def on_error(self, error: Exception) -> None:
        if not self.is_stopped:
            # One that was raised below, and comes back through the source, stays the reason
            # if what raised it once raises more when the stages flush.
            reason = error if id(error) == self._raised else None
            below = self._downstream
            had_ended = below is not None and below.is_stopped
            self._end(partial(self._on_error, error), reason)
            if reason is None or below is None:
                return
            if had_ended:  # it came out of the terminal below, and was not reported
                raise reason
            if below._raised == id(reason):
                # It came out of the stage below; replay() and its like do not bring it back.
                below.on_error(reason)

    def on_completed(self) -> None:
        if not self.is_stopped:
            self._end(self._on_completed)

    def _end(self, emit_terminal: Callable[[], object], reason: Exception | None = None) -> None:
        self.is_stopped = True
        try:
            emit_terminal()
        except Exception as raised:
            self._pass_down(raised, reason)
        finally:
            try:
                self._subscription.dispose()
            except Exception as raised:  # of finally_action(), perhaps
                self._pass_down(raised, reason)

    def _pass_down(self, raised: Exception, reason: Exception | None) -> None:
        below = self._downstream
        if below is None:  # subscribed to later, as concat() does with what it goes on with
            below = getattr(self._on_error, "__self__", None)
        if getattr(below, "is_stopped", True):  # or it is not a stage: nothing carries it on
            if not _called_by_a_scheduler():
                raise raised
            report_unhandled(raised)
        elif below is not None:
            below.on_error(reason or raised)

    def dispose(self) -> None:
        self.is_stopped = True
        self._subscription.dispose()


def fail_observer(observer: abc.ObserverBase[Any], error: Exception) -> None:
    """End an observer with an error that was raised on a thread without a source to carry it;
    raise the error again if the observer has had its end."""
    if getattr(observer, "is_stopped", False):
        raise error
    observer.on_error(error)


# --- unhandled errors -------------------------------------------------------------

_OWN_FOLDERS = tuple(
    os.path.dirname(os.path.abspath(file)) + os.sep
    for file in (os.path.dirname(__file__), reactivex.__file__, asyncio.__file__)
)
_OF_REACTIVEX = _OWN_FOLDERS[1]
_OWN_FILES = (threading.__file__,)
_CALLERS_OF_SCHEDULED = (threading.__file__, asyncio.events.__file__, futures.__file__)


def _called_by_a_scheduler() -> bool:
    """Whether there is nothing but reactivex between Subscribers and the thread, the pool or
    the event loop that called them."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((__file__, _OF_REACTIVEX)):
        frame = frame.f_back
    return frame is None or frame.f_code.co_filename in _CALLERS_OF_SCHEDULED


def _is_of_program(filename: str) -> bool:
    return not filename.startswith(_OWN_FOLDERS) and filename not in _OWN_FILES


def _place_of_caller() -> FrameSummary | None:
    """The line of the program that subscribes, for the report of an error."""
    frame = inspect.currentframe()
    while frame is not None and not _is_of_program(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return None
    return FrameSummary(
        frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, lookup_line=False
    )


def _raise(place: FrameSummary | None, error: Exception) -> None:
    if place is not None:
        note = "not handled: subscribed without on_error at\n" + format_list([place])[0].rstrip()
        error.__notes__ = [*getattr(error, "__notes__", ()), note]
    raise error


def report_unhandled(error: BaseException) -> None:
    """Report an unhandled error of a thread of this library: to `threading.excepthook` if
    the program has set one; otherwise briefly on stderr, with the program's own lines."""
    if threading.excepthook is not threading.__excepthook__:
        threading.excepthook(
            threading.ExceptHookArgs(
                (type(error), error, error.__traceback__, threading.current_thread())
            )
        )
    elif not isinstance(error, SystemExit) and sys.stderr is not None:
        sys.stderr.write(_brief(error))


def reporting_unhandled(work: Callable[P, object]) -> Callable[P, None]:
    """Returns a function that does the work of a thread, and reports its unhandled error."""

    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except BaseException as error:  # the last place of a thread
            report_unhandled(error)

    return run


def _brief(error: BaseException) -> str:
    frames = [each for each in extract_tb(error.__traceback__) if _is_of_program(each.filename)]
    raised_at = ["raised at\n", *format_list(frames)] if frames else []
    return "".join([*format_exception_only(error), *raised_at])
