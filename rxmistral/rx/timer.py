"""A timer whose thread emits in turns with the source's.

    source's thread                                  timer's thread
      on_next ──▶ short way ──▶ [ turn ] ◀── long way ◀── due
                                    └──▶ observer

What it must do: one thread at a time emits, and nothing waits for a thread that will not
come. What it may cost: an item of the source takes no lock. So there are two ways to the
turn:

    short   the source's: say that it has the turn, then look whether another has it
    long    any thread's, under a lock: say that it has the turn, then look whether the
            source has it

Both say so before they look: where they meet, one at least sees the other and gives way.
The long way leaves its work to the source; the source waits. But it leaves its work too
where it would wait for itself, which is in a callback of who has the turn, and on an
event loop. Work that is left is done by who has the turn:

    leave   put the work down, then look whether somebody has the turn: if not, take it
    end     give the turn back, then look whether there is work: if so, take it again

Again one at least sees the other, so the work is done. Who has the turn by the long way
keeps it while there is work, so that the source does not overtake what it left, and
gives it back before that only to a source that waits.

No lock is held while anything is called: a callback may dispose, and it may emit into
its own source, which comes when the callback has returned.

All this asks that a thread which writes and then reads is seen to do so in that order:
the interpreter's lock sees to it, and where there is none the lock of each object. And
that the source emits on one thread at a time, as Rx has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial, wraps
from threading import Condition, Lock, get_ident
from typing import TypeVar, TypeVarTuple

from reactivex import abc
from reactivex.disposable import SerialDisposable
from reactivex.scheduler import TimeoutScheduler
from reactivex.scheduler.scheduler import Scheduler

from .backpressure import on_an_event_loop
from .clock import monotonic
from .subscriber import reporting_unhandled

__all__ = ["SerializedTimer", "serialized"]


class SerializedTimer(abc.DisposableBase):
    """One timer, and the turn to emit; the operators that keep time are made of it."""

    def __init__(self, scheduler: abc.SchedulerBase) -> None:
        self.now = _clock(scheduler)
        self.armed = False  # there is a timer that `due` was not called for
        self._scheduler = scheduler
        self._timer = SerialDisposable()
        self._source_has_turn = False  # by the short way; or asks, or waits for it
        self._source_waits = False
        self._holder = 0  # the thread that has it by the long way, or asks for it
        self._left: deque[Callable[[], None]] = deque()
        self._meeting = Condition(Lock())
        self._context = copy_context()  # of the subscriber, for what is due

    def arm(self, seconds: float) -> None:
        """In the turn: have `due` called, in so many seconds."""
        if not self._timer.is_disposed:
            self.armed = True
            try:
                self._timer.disposable = self._scheduler.schedule_relative(seconds, self._fire)
            except RuntimeError:  # no thread can be started: the next item may set it
                self.armed = False

    def due(self) -> None:
        """What to do when the time has come; in the turn, and not when disposed."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """What to do about an error of work that was left, or of `due`; in the turn."""
        raise error

    def dispose(self) -> None:
        self._timer.dispose()

    def _fire(self, *_: object) -> None:
        # On a timer's thread nothing catches what is raised.
        threaded = isinstance(self._scheduler, TimeoutScheduler)
        leave = reporting_unhandled(self._leave) if threaded else self._leave
        self._context.copy().run(leave, self._ring)

    def _ring(self) -> None:
        if not self._timer.is_disposed:
            self.armed = False
            self.due()

    def _leave(self, work: Callable[[], None]) -> None:
        self._left.append(work)
        self._do_what_is_left()

    def _do_what_is_left(self, raised: Exception | None = None) -> None:
        """The long way; `raised` is what the work before it has raised."""
        with self._meeting:
            if self._holder:
                return
            self._holder = get_ident()
            if self._source_has_turn:
                self._give_back()
                return
        while self._keeps_turn():
            try:
                self._do(self._left.popleft(), raised)
            except BaseException:
                with self._meeting:
                    self._give_back()
                self._do_what_is_left()
                raise

    def _do(self, work: Callable[[], None], raised: Exception | None) -> None:
        # It may be the timer's thread, from which no error comes to the source. If something
        # was raised before, it is the reason: what received that is not to be relied on.
        try:
            work()
        except Exception as error:
            self.fail(raised or error)

    def _keeps_turn(self) -> bool:
        with self._meeting:
            if self._left and not self._source_waits:
                return True
            self._give_back()
            return False

    def _give_back(self) -> None:
        self._holder = 0
        self._meeting.notify_all()

    def _source_gets_turn(self) -> bool:
        """The short way, where it met the long one; it may have to wait."""
        with self._meeting:
            if not on_an_event_loop():
                self._source_waits = True
                self._meeting.wait_for(lambda: not self._holder)
                self._source_waits = False
            self._source_has_turn = not self._holder
            return self._source_has_turn


A = TypeVar("A", bound=SerializedTimer)
Args = TypeVarTuple("Args")


def serialized(work: Callable[[A, *Args], None]) -> Callable[[A, *Args], None]:
    """A method that the source calls, and that is done in the turn: the short way to it.

    Called in the turn, it is done when that is given back.
    """

    @wraps(work)
    def turn(self: A, *args: *Args) -> None:
        if self._source_has_turn or self._holder == get_ident():
            self._leave(partial(work, self, *args))
            return
        self._source_has_turn = True
        if self._holder and not self._source_gets_turn():
            self._leave(partial(work, self, *args))
            return
        raised: Exception | None = None
        try:
            work(self, *args)
        except Exception as error:
            raised = error
            raise
        finally:
            self._source_has_turn = False
            if self._left:
                self._do_what_is_left(raised)
            raised = None  # or it would hold itself, through this frame

    return turn


def _clock(scheduler: abc.SchedulerBase) -> Callable[[], float]:
    """Its time in seconds; where that is the wall's, by a clock that nobody sets."""
    if isinstance(scheduler, Scheduler) and type(scheduler).now is Scheduler.now:
        return monotonic
    return lambda: scheduler.to_seconds(scheduler.now)
