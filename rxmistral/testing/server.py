"""The scripted server: assigns scripts to requests, and keeps track of its connections."""

import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from traceback import format_exception_only
from typing import Literal, Self, TypeAlias

from ..rx.clock import monotonic
from .compiler import CompiledScript, Framing, compile_script
from .connection import Connection, ServerClosedError, ShutdownSignal
from .received import ReceivedRequest, read_request
from .steps import Script, UntilStep, WaitStep, status

ScriptFunction: TypeAlias = Callable[[ReceivedRequest], Script]
"""Returns the script for a request. Called on the thread of the connection, so calls may overlap."""

# What to do with a connection once its answer has been sent.
_Ending: TypeAlias = Literal["keep", "close", "drop", "abort"]

_JOIN_SECONDS = 5.0


class ScriptedServer:
    """An HTTP/1.1 server on the loopback interface that answers as its scripts specify.

        hello = ["Hello", steps.finish(), steps.done()]
        with ScriptedServer(hello, [steps.status(429, body={})]) as server:
            ...  # a client of server.url

    Each script answers one request, in the order of arrival. In place of a script, a function of
    the `ReceivedRequest` may return one; a single function answers every request. A request
    without a script is answered with status 500, and leaving the `with` block then raises
    AssertionError. It also raises what a function raised; the request is then answered with
    status 400 after an AssertionError, and otherwise with 500.

    If the server ends a connection in an orderly way (framing `close`, `drop`, or a
    `Connection: close` of either side), it closes its own side and then waits for the peer to
    close the other: `open_connections` counts a connection until both sides are closed.

    Args:
        scripts: What to answer. They are compiled at once; later changes have no effect.
        tls: The context to serve HTTPS with; its certificate must be valid for `localhost`.
            None: HTTP.
        framing: How the body is sent.
            `chunked`: `Transfer-Encoding: chunked`, one chunk for each frame.
            `gzip`: chunked, and compressed; flushed after each frame.
            `close`: unchanged; it ends with the connection.
            `length`: unchanged, after a `Content-Length`. If the script never ends the body
            (`drop`, `abort`, `hang`), the length is one byte too large.
        model: The `model` of the chunks.
        port: The TCP port to listen on, on 127.0.0.1; 0 picks a free one.
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
        self._scripts: list[CompiledScript | ScriptFunction] = []
        self.script(*scripts)
        self._changed = threading.Condition()
        self._requests: list[ReceivedRequest] = []
        self._connections = 0
        self._open = 0
        self._failures: list[BaseException] = []
        self._shutdown: ShutdownSignal | None = None
        self._requested_port = port
        self._port: int | None = None
        self._acceptor: threading.Thread | None = None
        self._threads: list[threading.Thread] = []

    def script(self, *scripts: Script | ScriptFunction) -> None:
        """Adds scripts, as if they had been passed after those that the server was created with.

        Raises:
            TypeError, ValueError: A script cannot be played; none is added.
        """
        first = len(self._scripts)
        self._scripts += [
            script if callable(script) else self._compile(script, number)
            for number, script in enumerate(scripts, first)
        ]

    def _compile(self, script: Script, number: int) -> CompiledScript:
        return compile_script(script, self._framing, self._model, f"scripted-{number}")

    # --- lifecycle ---

    def start(self) -> Self:
        """Begins to listen; a server can be started once.

        Raises:
            OSError: The port is in use.
        """
        if self._shutdown is not None:
            raise RuntimeError("this server was started before; create another one")
        listener = socket.create_server(("127.0.0.1", self._requested_port), backlog=256)
        listener.setblocking(False)
        self._shutdown = ShutdownSignal()
        self._port = listener.getsockname()[1]
        self._acceptor = self._start_thread(self._accept, listener, self._shutdown)
        return self

    def close(self) -> None:
        """Closes every connection, whatever its script is doing, and waits for the threads."""
        self.begin_to_close()
        if self._acceptor is not None:
            self._acceptor.join()

    def begin_to_close(self) -> None:
        """Closes the server without waiting, and without a lock, so that a finalizer may call it."""
        if self._shutdown is not None:
            self._shutdown.set()

    def check(self) -> None:
        """Raises what went wrong, once.

        Leaving the `with` block calls it, or adds a note to the exception that the block raised.

        Raises:
            AssertionError: A request had no script.
            BaseException: What a script function raised.
        """
        failures, self._failures = self._failures, []
        for other in failures[1:]:
            failures[0].add_note(f"Also: {_in_words(other)}")
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
            raised.add_note(f"ScriptedServer: {_in_words(failure)}")

    # --- state, for tests ---

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        if self._port is None:
            raise RuntimeError(
                "the server has no port before it is started; use `with`, or call start()"
            )
        return self._port

    @property
    def url(self) -> str:
        """The `server_url` for a client: `http://127.0.0.1:PORT` or `https://localhost:PORT`."""
        origin = "http://127.0.0.1" if self._tls is None else "https://localhost"
        return f"{origin}:{self.port}"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests that have arrived so far, in the order of arrival."""
        return list(self._requests)

    @property
    def connections(self) -> int:
        """The number of TCP connections that were accepted so far."""
        return self._connections

    @property
    def open_connections(self) -> int:
        """The number of connections that are open."""
        return self._open

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[ReceivedRequest]:
        """Waits until `count` requests have arrived, and returns all that have.

        Raises:
            TimeoutError: Fewer have arrived after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, timeout):
                raise TimeoutError(
                    f"{len(self._requests)} of {count} requests arrived within {timeout} seconds"
                )
            return list(self._requests)

    def wait_idle(self, timeout: float = 5.0) -> bool:
        """Waits until no connection is open; returns False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout)

    # --- connections ---

    def _start_thread(self, target: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(
            target=target, args=args, name=f"scripted-server-{self._port}", daemon=True
        )
        thread.start()
        return thread

    def _accept(self, listener: socket.socket, shutdown: ShutdownSignal) -> None:
        with listener, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(shutdown, selectors.EVENT_READ)
            while selector.select() and not shutdown.is_set:
                try:
                    accepted, _ = listener.accept()
                except (BlockingIOError, ConnectionError):  # the peer is gone again
                    continue
                except OSError as error:  # no descriptors left
                    self._failures.append(error)
                    selector.unregister(listener)
                    listener.close()
                    continue
                self._start_connection(accepted, shutdown)
        self._join_connections(shutdown)

    def _join_connections(self, shutdown: ShutdownSignal) -> None:
        deadline = monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._failures.append(
                AssertionError("a script function was still running when the server was closed")
            )
        else:  # otherwise the signal stays open, for the thread that has yet to check it
            shutdown.close()

    def _start_connection(self, accepted: socket.socket, shutdown: ShutdownSignal) -> None:
        with self._changed:
            number = self._connections
            self._connections += 1
            self._open += 1
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(self._start_thread(self._serve, accepted, number, shutdown))

    def _serve(self, accepted: socket.socket, number: int, shutdown: ShutdownSignal) -> None:
        requests: list[ReceivedRequest] = []
        closed = None
        try:
            with Connection(accepted, self._tls, shutdown) as connection:
                connection.handshake()
                self._answer_requests(connection, number, requests)
        except OSError:  # the peer closed or reset the connection
            closed = monotonic()
        except ServerClosedError:
            pass
        except Exception as error:
            self._failures.append(error)
        with self._changed:
            self._open -= 1
            for request in requests:
                request.closed = closed
                request.disconnected = True
            self._changed.notify_all()

    # --- requests ---

    def _answer_requests(
        self, connection: Connection, number: int, requests: list[ReceivedRequest]
    ) -> None:
        ending: _Ending = "keep"
        while ending == "keep":
            request = self._receive(connection, number)
            requests.append(request)
            ending = self._answer(connection, request)
        if ending == "abort":
            connection.abort()
        else:
            connection.finish(with_close_notify=ending == "close")

    def _receive(self, connection: Connection, number: int) -> ReceivedRequest:
        parts = read_request(connection)
        with self._changed:
            count = len(self._requests)
            request = ReceivedRequest(count, number, *parts, monotonic(), self._changed)
            self._requests.append(request)
            self._changed.notify_all()
        return request

    def _answer(self, connection: Connection, request: ReceivedRequest) -> _Ending:
        is_cut = True
        try:
            script = self._script_for(request)
            ending = _play(script, connection, request)
            is_cut = False
        finally:
            with self._changed:
                request.cut = is_cut
                request.answered = monotonic()
                self._changed.notify_all()
        wants_close = request.headers.get("Connection", "").lower() == "close"
        return "close" if ending == "keep" and (script.closes or wants_close) else ending

    def _script_for(self, request: ReceivedRequest) -> CompiledScript:
        is_for_all = len(self._scripts) == 1 and callable(self._scripts[0])
        number = 0 if is_for_all else request.number
        if number >= len(self._scripts):
            message = (
                f"no script for {request!r}, counted from 0: "
                f"the server was given {len(self._scripts)}"
            )
            self._failures.append(AssertionError(message))
            return self._error_response(message, "unscripted_request")
        script = self._scripts[number]
        if isinstance(script, CompiledScript):
            return script
        try:
            return self._compile(script(request), request.number)
        except BaseException as error:
            self._failures.append(error)
            if isinstance(error, AssertionError):  # a fault of the request: not to be repeated
                return self._error_response(str(error), "unexpected_request", 400)
            message = f"the script function for {request!r} raised {error!r}"
            return self._error_response(message, "script_function_error")

    def _error_response(self, message: str, kind: str, code: int = 500) -> CompiledScript:
        body = {"object": "error", "message": message, "type": kind, "param": None, "code": None}
        return compile_script([status(code, body=body)], self._framing, self._model, "")


def _in_words(failure: BaseException) -> str:
    return "".join(format_exception_only(failure)).rstrip()


def _play(script: CompiledScript, connection: Connection, request: ReceivedRequest) -> _Ending:
    """Sends the response; returns what to do with the connection afterwards."""
    head = script.head
    for operation in script.operations:
        if isinstance(operation, bytes):
            connection.send(head + operation)
            head = b""
            request.frames += 1
        elif isinstance(operation, WaitStep):
            connection.wait(operation.seconds)
        elif isinstance(operation, UntilStep):
            connection.wait(request.received + operation.seconds - monotonic())
        elif operation.name == "headers":
            connection.send(head)
            head = b""
        elif operation.name == "end":
            connection.send(head + script.tail)
        elif operation.name == "hang":
            connection.hang()
        else:
            return operation.name
    return "keep"
