"""A compiled script as a Stream of blocks: without a socket, on any scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from copy import copy
from threading import Event, Thread
from typing import NoReturn

from reactivex import abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable
from reactivex.scheduler import TimeoutScheduler

from ..errors import DroppedStreamError, RequestError
from ..rx.cancellation import Cancelled
from ..rx.current_iteration import current_iteration
from ..rx.stream import Stream
from ..rx.subscriber import reporting_unhandled
from .compiler import CompiledScript, Operation
from .scripted_body import ScriptedBody, response_of
from .steps import ActionStep, UntilStep, WaitStep

__all__ = ["play", "scripted_blocks"]


def scripted_blocks(
    script: CompiledScript,
    scheduler: abc.SchedulerBase | None = None,
    hang_error: Exception | None = None,
    any_body: bool = False,
) -> Stream[bytes]:
    """Returns the blocks that `rxmistral.wire.blocks` emits if a server answers with this script.

    Cold: each subscription plays the script from its beginning. The framing of the script must be
    `close`, which leaves the blocks as they are.

    Args:
        script: The script.
        scheduler: Waits for the steps of time. None: the scheduler of the subscription, and if it
            has none, real time.
        hang_error: The error that `hang()` stands for. None: silence, until the disposal.
        any_body: Whether to emit each block at once, even of a body that is not an event stream.
            False: the first blocks are held back until the body is known to be one.

    Emits: each frame of a script whose status is 2xx.
    Completes: at the end of the body.
    Errors: `StatusError` for another status; `ProtocolError` if the body is not an event stream;
        `RequestError` if the connection ends before the headers; `DroppedStreamError` if it ends
        within the body.
    """

    def subscribe(
        observer: abc.ObserverBase[bytes], subscribed: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        body = ScriptedBody(observer, any_body)

        def begin() -> CompiledScript:
            return script

        return play(begin, body, scheduler or subscribed, hang_error)

    return Stream(subscribe)


def play(
    begin: Callable[[], CompiledScript],
    body: ScriptedBody,
    scheduler: abc.SchedulerBase | None,
    hang_error: Exception | None = None,
) -> abc.DisposableBase:
    """Plays the script that a function returns when the answer begins; returns its Disposable."""
    player = _Player(begin, body, scheduler or TimeoutScheduler.singleton(), hang_error)
    if scheduler is None and current_iteration.get() is None:
        player.delay_exit()
    try:
        player.start()
    except Exception as error:  # of the scheduler, such as one that can start no thread
        body.on_error(error)
    return player


class _Player(abc.DisposableBase):
    """One subscription, which runs the operations up to the next wait at once."""

    def __init__(
        self,
        begin: Callable[[], CompiledScript],
        body: ScriptedBody,
        scheduler: abc.SchedulerBase,
        hang_error: Exception | None,
    ) -> None:
        self._begin = begin
        self._body = body
        self._scheduler = scheduler
        self._hang_error = hang_error
        self._script: CompiledScript | None = None  # until it begins
        self._operations: Iterator[Operation] = iter(())
        self._has_head = False  # the headers have arrived
        self._elapsed = 0.0  # seconds since the subscription
        self._timer = SerialDisposable()
        self._ended = Event()
        self._is_running = False
        self._context = copy_context()  # of the subscriber, for its callbacks

    def start(self, seconds: float = 0.0) -> None:
        """Plays the next operations after these seconds."""
        timer = SingleAssignmentDisposable()
        self._timer.disposable = timer  # first: another thread may start the next timer meanwhile
        timer.disposable = self._scheduler.schedule_relative(seconds, self._wake)

    def delay_exit(self) -> None:
        """Lets the interpreter exit after the end only: the threads of the timers are daemons."""
        with suppress(RuntimeError):  # no thread can be started
            Thread(target=self._ended.wait, name="rxmistral-script", daemon=False).start()

    def dispose(self) -> None:
        self._timer.dispose()
        if not self._is_running:  # else a callback that ends it may begin another one
            self._ended.set()

    def _wake(self, *_: object) -> None:
        # Nothing catches an exception on a timer's thread.
        is_threaded = isinstance(self._scheduler, TimeoutScheduler)
        run = reporting_unhandled(self._run) if is_threaded else self._run
        self._context.copy().run(run)

    def _run(self) -> None:
        self._is_running = True
        try:
            if self._script is None:
                self._script = self._begin()
                self._operations = iter(self._script.operations)
            self._play(self._script)
        except Cancelled:
            self.dispose()
        except Exception as error:  # of the script, or of a callback
            self._timer.dispose()
            self._body.on_error(error)
        finally:
            self._is_running = False
            if self._timer.is_disposed:
                self._ended.set()

    def _play(self, script: CompiledScript) -> None:
        while not self._timer.is_disposed:
            operation = next(self._operations)  # the last one returns
            if isinstance(operation, bytes):
                self._receive_head(script)
                self._body.on_next(operation)
            elif isinstance(operation, WaitStep | UntilStep):
                if self._wait(operation):
                    return
            elif operation.name == "headers":
                self._receive_head(script)
            elif operation.name == "end":
                self._receive_head(script)
                self._timer.dispose()
                self._body.on_completed()
            elif operation.name == "hang":
                if self._hang_error is not None:
                    raise copy(self._hang_error)
                return
            else:
                self._break(operation)

    def _wait(self, step: WaitStep | UntilStep) -> bool:
        """Returns whether the step is a wait that has begun."""
        seconds = step.seconds - (self._elapsed if isinstance(step, UntilStep) else 0.0)
        if seconds <= 0:
            return False
        self._elapsed += seconds
        self.start(seconds)
        return True

    def _receive_head(self, script: CompiledScript) -> None:
        if not self._has_head:
            self._has_head = True
            self._body.on_response(response_of(script))

    def _break(self, ending: ActionStep) -> NoReturn:
        is_reset = ending.name == "abort"
        if not self._has_head:
            raise RequestError("connection reset" if is_reset else "closed before the headers")
        raise DroppedStreamError(
            "connection reset" if is_reset else "closed before the end of the body"
        )
