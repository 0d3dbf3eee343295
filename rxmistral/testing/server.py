"""The scripted server: which request gets which script, and who is connected."""

import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Literal, Self, TypeAlias

from ..rx.clock import monotonic
from .answers import Answer, Framing, compose
from .connection import Bell, Connection, PeerClosedError, StoppedError
from .received import ReceivedRequest, read_request
from .steps import Script, Wait, status

ScriptFunction: TypeAlias = Callable[[ReceivedRequest], Script]
"""Makes the script for a request. Runs on the thread of the connection, so several may run at once."""

# What to do with the connection once its answer is sent.
_Ending: TypeAlias = Literal["keep", "close", "drop", "abort"]

_BACKLOG = 256
_JOIN_SECONDS = 5.0


class ScriptedServer:
    """An HTTP/1.1 server on the loopback interface that answers as its scripts say.

        with ScriptedServer(["Hello", steps.finish(), steps.done()], [steps.status(429, body={})]) as server:
            ...  # a client of server.url

    Each script, or function of the `ReceivedRequest` that returns one, answers one request, in the order the
    requests come. One function alone answers every request. A request without a script is answered with status 500,
    and leaving the `with` block raises AssertionError for it, as it raises what a function raised.

    Args:
        scripts: what to answer. Written down at once: a later change of the list changes nothing.
        tls: the context to serve HTTPS with, its certificate loaded; it must be good for `localhost`.
        framing: how the body is sent.
            `chunked`: `Transfer-Encoding: chunked`, one chunk for each frame.
            `gzip`: the same, compressed, and flushed at each frame.
            `close`: as it is; closing the connection ends it.
            `length`: as it is, after a `Content-Length`. A body the script never ends (`drop`, `abort`, `hang`) promises
            one byte more than there is.
        model: the `model` of the chunks.
        port: the TCP port to listen on, on 127.0.0.1; 0 picks a free one.

    Every ending of the connection that the server makes orderly (framing `close`, `drop`, a `Connection: close` of
    either side) closes the server's side and then waits for the peer to close its own: `open_connections` counts a
    connection until both have.
    """

    def __init__(
        self,
        *scripts: Script | ScriptFunction,
        tls: ssl.SSLContext | None = None,
        framing: Framing = "chunked",
        model: str = "scripted",
        port: int = 0,
    ) -> None:
        self._framing: Framing = framing
        self._model = model
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"tls must be an ssl.SSLContext, got {type(tls).__name__}")
        self._tls = tls
        self._scripts = [
            script if callable(script) else self._compose(script, number)
            for number, script in enumerate(scripts)
        ]
        self._for_all = scripts[0] if len(scripts) == 1 and callable(scripts[0]) else None
        self._changed = threading.Condition()
        self._requests: list[ReceivedRequest] = []
        self._connections = 0
        self._open = 0
        self._failures: list[BaseException] = []
        self._bell: Bell | None = None
        self._wanted_port = port
        self._port: int | None = None
        self._acceptor: threading.Thread | None = None
        self._threads: list[threading.Thread] = []

    def _compose(self, script: Script, number: int) -> Answer:
        return compose(script, self._framing, self._model, f"scripted-{number}")

    # Life.

    def start(self) -> Self:
        """Listen. A server is started once.

        Raises:
            OSError: The port is in use.
        """
        if self._bell is not None:
            raise RuntimeError("this server was started before; make another one")
        listener = socket.create_server(("127.0.0.1", self._wanted_port), backlog=_BACKLOG)
        listener.setblocking(False)
        self._bell = Bell()
        self._port = listener.getsockname()[1]
        self._acceptor = self._spawn(self._accept, listener, self._bell)
        return self

    def close(self) -> None:
        """Close every connection, whatever its script is doing, and wait for the threads. May be called again."""
        if self._bell is None or self._acceptor is None:
            return
        self.begin_to_close()
        self._acceptor.join()

    def begin_to_close(self) -> None:
        """Close without waiting. It takes no lock, so a finalizer may call it, on whatever thread that runs."""
        if self._bell is not None:
            self._bell.ring()

    def check(self) -> None:
        """Raise what went wrong: what a script function raised, or AssertionError for a request without a script.

        Leaving the `with` block does it, unless the block is raising something already; that gets a note instead.
        """
        failures, self._failures = self._failures, []
        for other in failures[1:]:
            failures[0].add_note(f"And then: {other!r}")
        if failures:
            raise failures[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        self.close()
        if raised is None:
            self.check()
            return
        for failure in self._failures:
            raised.add_note(f"ScriptedServer: {failure!r}")

    # What a test asks.

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        if self._port is None:
            raise RuntimeError(
                "the server has no port before it is started: use `with`, or start()"
            )
        return self._port

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, or `https://localhost:PORT`: what a client takes for the address of the service."""
        return (
            f"http://127.0.0.1:{self.port}"
            if self._tls is None
            else f"https://localhost:{self.port}"
        )

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests that came until now, in their order."""
        with self._changed:
            return list(self._requests)

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted."""
        with self._changed:
            return self._connections

    @property
    def open_connections(self) -> int:
        """How many of them are still there."""
        with self._changed:
            return self._open

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[ReceivedRequest]:
        """Wait until so many requests have come, and return them all; TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, timeout):
                raise TimeoutError(
                    f"{len(self._requests)} of {count} requests came within {timeout} seconds"
                )
            return list(self._requests)

    def wait_idle(self, timeout: float = 5.0) -> bool:
        """Wait until no connection is open; false if one still was after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout)

    # Connections.

    def _spawn(self, target: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(
            target=target, args=args, name=f"scripted-server-{self._port}", daemon=True
        )
        thread.start()
        return thread

    def _accept(self, listener: socket.socket, bell: Bell) -> None:
        with listener, selectors.DefaultSelector() as ready:
            ready.register(listener, selectors.EVENT_READ)
            ready.register(bell, selectors.EVENT_READ)
            while ready.select() and not bell.rung:
                try:
                    accepted, _ = listener.accept()
                except (BlockingIOError, ConnectionError):  # it went before we came to it
                    continue
                except OSError as error:  # no descriptors left
                    self._fail(error)
                    ready.unregister(listener)
                    listener.close()
                    continue
                self._welcome(accepted, bell)
        self._wait_for_connections(bell)

    def _wait_for_connections(self, bell: Bell) -> None:
        deadline = monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._fail(
                AssertionError("a script function was still running when the server was closed")
            )
        else:  # otherwise the bell stays, for the thread that has yet to look at it
            bell.close()

    def _welcome(self, accepted: socket.socket, bell: Bell) -> None:
        with self._changed:
            number = self._connections
            self._connections += 1
            self._open += 1
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(self._spawn(self._serve, accepted, number, bell))

    def _serve(self, accepted: socket.socket, number: int, bell: Bell) -> None:
        """One connection, from its beginning to its end."""
        mine: list[ReceivedRequest] = []
        closed = None
        try:
            with Connection(accepted, self._tls, bell) as connection:
                connection.handshake()
                self._converse(connection, number, mine)
        except PeerClosedError:
            closed = monotonic()
        except StoppedError:
            pass
        except Exception as error:
            self._fail(error)
        self._part(mine, closed)

    def _part(self, requests: list[ReceivedRequest], closed: float | None) -> None:
        with self._changed:
            self._open -= 1
            for request in requests:
                request.closed = closed
                request.disconnected = True
            self._changed.notify_all()

    # Requests.

    def _converse(self, connection: Connection, number: int, mine: list[ReceivedRequest]) -> None:
        ending: _Ending = "keep"
        while ending == "keep":
            request = self._receive(connection, number)
            mine.append(request)
            ending = self._answer(connection, request)
        if ending == "abort":
            connection.abort()
        else:
            connection.finish(politely=ending == "close")

    def _receive(self, connection: Connection, number: int) -> ReceivedRequest:
        head, body = read_request(connection)
        with self._changed:
            request = ReceivedRequest(
                len(self._requests), number, head, body, monotonic(), self._changed
            )
            self._requests.append(request)
            self._changed.notify_all()
        return request

    def _answer(self, connection: Connection, request: ReceivedRequest) -> _Ending:
        cut = True
        try:
            answer = self._answer_for(request)
            ending = _perform(answer, connection, request)
            cut = False
        finally:
            with self._changed:
                request.cut = cut
                request.answered = monotonic()
                self._changed.notify_all()
        wants_close = request.headers.get("Connection", "").lower() == "close"
        return "close" if ending == "keep" and (answer.closes or wants_close) else ending

    def _answer_for(self, request: ReceivedRequest) -> Answer:
        if self._for_all is not None:
            return self._ask(self._for_all, request)
        if request.number >= len(self._scripts):
            return self._refuse(request)
        script = self._scripts[request.number]
        return script if isinstance(script, Answer) else self._ask(script, request)

    def _ask(self, function: ScriptFunction, request: ReceivedRequest) -> Answer:
        try:
            return self._compose(function(request), request.number)
        except BaseException as error:
            self._fail(error)
            return self._sorry(
                f"the script function for {request!r} raised {error!r}", "script_function_error"
            )

    def _refuse(self, request: ReceivedRequest) -> Answer:
        message = (
            f"no script for {request!r}, counted from 0: the server was given {len(self._scripts)}"
        )
        self._fail(AssertionError(message))
        return self._sorry(message, "unscripted_request")

    def _sorry(self, message: str, kind: str) -> Answer:
        body = {"object": "error", "message": message, "type": kind, "param": None, "code": None}
        return compose([status(500, body=body)], self._framing, self._model, "")

    def _fail(self, failure: BaseException) -> None:
        with self._changed:
            self._failures.append(failure)


def _perform(answer: Answer, connection: Connection, request: ReceivedRequest) -> _Ending:
    """Send the answer; tell what to do with the connection afterwards."""
    for operation in answer.operations:
        if isinstance(operation, bytes):
            connection.send(operation)
            request.frames += 1
        elif isinstance(operation, Wait):
            connection.wait(operation.seconds)
        elif operation.word == "headers":
            connection.send(answer.head)
        elif operation.word == "end":
            connection.send(answer.tail)
        elif operation.word == "hang":
            connection.hang()
        else:
            return operation.word
    return "keep"
