"""ScriptedSource: the exchanges of a client with a server that does not exist.

request ──▶ script ──▶ head ──▶ block, block, ... ──▶ end
                 no socket, no thread: timers of a scheduler
"""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from threading import Condition, Lock
from typing import TypeAlias
from urllib.parse import urlsplit

from reactivex import abc

from ..rx.clock import monotonic
from ..rx.stream import Stream
from ..rx.timer import clock_of
from ..wire.idle_timeout import IdleTimeout
from ..wire.reader import Request, Response, Session
from ..wire.taps import Exchange, Tap, ending_of, observe
from .compiler import CompiledScript, compile_script
from .received import ReceivedRequest
from .scripted_blocks import play
from .scripted_body import ScriptedBody
from .steps import Script

__all__ = ["ScriptFunction", "ScriptedSource"]

ScriptFunction: TypeAlias = Callable[[ReceivedRequest], Script]

_MODEL = "scripted"


class ScriptedSource:
    """A source that answers requests with scripts, in their order."""

    def __init__(
        self, scripts: tuple[Script | ScriptFunction, ...], scheduler: abc.SchedulerBase | None
    ) -> None:
        self.requests: list[ReceivedRequest] = []
        self.now = monotonic if scheduler is None else clock_of(scheduler)
        self._scheduler = scheduler
        self._lock = Lock()
        self._scripts = [
            script if callable(script) else _compile(script, number)
            for number, script in enumerate(scripts)
        ]

    def open_blocks(
        self,
        request: Callable[[], Request],
        *,
        session: Session,
        idle_timeout: IdleTimeout,
        on_response: Callable[[Response], None],
        on_release: Callable[[Exception | None], None],
        tap: Tap | None,
        **_: object,
    ) -> Stream[bytes]:
        """Returns a Stream like `rxmistral.wire.blocks`; the other arguments are of sockets."""

        def subscribe(
            observer: abc.ObserverBase[bytes], _: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            exchange = _Exchange(self, observer, idle_timeout, on_response, on_release)

            def begin() -> CompiledScript:
                return exchange.begin(request(), session, tap)

            exchange.player = play(begin, exchange, self._scheduler)
            return exchange

        return Stream(subscribe)

    def receive(self, method: str, url: str, headers: Message, body: bytes) -> ReceivedRequest:
        with self._lock:
            number = len(self.requests)
            path = urlsplit(url).path
            request = ReceivedRequest(
                number, number, method, path, headers, body, self.now(), Condition()
            )
            self.requests.append(request)
        return request

    def script_for(self, request: ReceivedRequest) -> CompiledScript:
        is_for_all = len(self._scripts) == 1 and callable(self._scripts[0])
        number = 0 if is_for_all else request.number
        if number >= len(self._scripts):
            raise AssertionError(
                f"no script for {request!r}, counted from 0: the client was given {len(self._scripts)}"
            )
        script = self._scripts[number]
        if isinstance(script, CompiledScript):
            return script
        return _compile(script(request), request.number)


def _compile(script: Script, number: int) -> CompiledScript:
    return compile_script(script, "close", _MODEL, f"scripted-{number}")


class _Exchange(ScriptedBody, abc.DisposableBase):
    """One request and its answer; measures the waits as the reader of a socket does."""

    player: abc.DisposableBase

    def __init__(
        self,
        source: ScriptedSource,
        observer: abc.ObserverBase[bytes],
        idle_timeout: IdleTimeout,
        on_response: Callable[[Response], None],
        on_release: Callable[[Exception | None], None],
    ) -> None:
        super().__init__(observer)
        self._source = source
        self._idle_timeout = idle_timeout
        self._notify_response = on_response
        self._on_release = on_release
        self._request: ReceivedRequest | None = None
        self._observed: Exchange | None = None  # if a recorder observes it
        self._raised: Exception | None = None  # by a callback
        self._has_ended = Lock()  # acquired once

    def begin(self, request: Request, session: Session, tap: Tap | None) -> CompiledScript:
        self._prepared = prepared = session.prepare_request(request)
        self._observed = observe(prepared, tap)
        headers = Message()
        for name, value in prepared.headers.items():
            headers[name] = value if isinstance(value, str) else value.decode("latin-1")
        body = prepared.body if isinstance(prepared.body, str | bytes) else b""
        self._request = self._source.receive(
            prepared.method or "",
            prepared.url or "",
            headers,
            body.encode() if isinstance(body, str) else body,
        )
        self._start_wait()
        return self._source.script_for(self._request)

    def on_response(self, response: Response) -> None:
        self._idle_timeout.end_wait()
        super().on_response(response)
        response.request, response.url = self._prepared, self._prepared.url or ""
        if self._observed is not None:
            self._observed.on_response(response.status_code, response.headers)
        self._notify_response(response)
        self._start_wait()

    def on_next(self, value: bytes) -> None:
        self._idle_timeout.end_wait()
        if self._request is not None:
            self._request.frames += 1
        if self._observed is not None:
            self._observed.on_block(value)
        super().on_next(value)
        self._start_wait()

    def _start_wait(self) -> None:
        # The reader may leave on another thread, which ends the wait: no timer may outlive it.
        if not self._has_ended.locked():
            self._idle_timeout.start_wait()
            if self._has_ended.locked():
                self._idle_timeout.end_wait()

    def _emit(self, block: bytes) -> None:
        try:
            super()._emit(block)
        except Exception as error:
            self._raised = error
            raise

    def _end(self, error: Exception | None) -> None:
        if self._release(error):
            super()._end(error)

    def dispose(self) -> None:
        self.player.dispose()
        self._release(None, is_left=True)

    def _release(self, error: Exception | None, is_left: bool = False) -> bool:
        """Ends the exchange; returns whether it had not ended before."""
        if not self._has_ended.acquire(blocking=False):
            return False
        self._idle_timeout.end_wait()
        if self._observed is not None:
            is_left = is_left or self._raised is not None
            self._observed.on_end("left" if is_left else ending_of(error))
        request = self._request
        if request is not None:
            with request._changed:
                request.answered, request.cut = self._source.now(), is_left
                request.closed, request.disconnected = request.answered, True
                request._changed.notify_all()
        self._on_release(self._raised)
        return True
