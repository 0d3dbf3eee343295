"""Real servers of real frameworks; each serves one body, which is made for each request."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from socketserver import ThreadingMixIn
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn
from faces import BOUND, eventually
from flask import Flask, Response, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from werkzeug.serving import make_server as make_werkzeug_server

from rxmistral import Stream
from rxmistral.relay import SSE_HEADERS

Body: TypeAlias = Callable[[str | None], Stream[bytes]]
"""Makes the body of a response from the request's header `Last-Event-ID`."""


# --- frameworks ------------------------------------------------------------------


def flask_app(body: Body, headers: Mapping[str, str]) -> Any:
    app = Flask("relay")

    @app.route("/", methods=["GET", "POST"])
    def answer() -> Response:
        return Response(body(request.headers.get("Last-Event-ID")), headers=headers)

    return app


def starlette_app(body: Body, headers: Mapping[str, str]) -> Any:
    async def answer(request: Request) -> StreamingResponse:
        return StreamingResponse(body(request.headers.get("Last-Event-ID")), headers=headers)

    return Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])


def plain_wsgi_app(body: Body, headers: Mapping[str, str]) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(headers.items()))
        return body(environ.get("HTTP_LAST_EVENT_ID"))

    return app


def plain_asgi_app(body: Body, headers: Mapping[str, str]) -> Any:
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def answer(scope: dict[str, Any], send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": encoded})
        last_event_id = dict(scope["headers"]).get(b"last-event-id", b"").decode()
        async for chunk in body(last_event_id or None):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        answering = asyncio.create_task(answer(scope, send))
        while (await receive())["type"] != "http.disconnect":
            pass
        answering.cancel()  # sending to a disconnected client raises nothing in ASGI
        await asyncio.wait([answering])

    return app


# --- servers ---------------------------------------------------------------------


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...

    def get_stderr(self) -> Any:
        return _NullStream()


class _NullStream:
    def write(self, _: str) -> None: ...

    def flush(self) -> None: ...


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextmanager
def _running(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def by_wsgiref(app: Any) -> Iterator[int]:
    server = make_server(
        "127.0.0.1", 0, app, server_class=_ThreadingServer, handler_class=_QuietHandler
    )
    with _running(server) as port:
        yield port


@contextmanager
def by_werkzeug(app: Any) -> Iterator[int]:
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = make_werkzeug_server("127.0.0.1", 0, app, threaded=True)
    with _running(server) as port:
        yield port


@contextmanager
def by_uvicorn(app: Any) -> Iterator[int]:
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        ws="websockets-sansio",
        timeout_graceful_shutdown=int(BOUND),
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert eventually(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


FRAMEWORKS: dict[str, tuple[Any, Any]] = {
    "flask": (flask_app, by_werkzeug),
    "wsgi": (plain_wsgi_app, by_wsgiref),
    "starlette": (starlette_app, by_uvicorn),
    "asgi": (plain_asgi_app, by_uvicorn),
}

Serve: TypeAlias = Callable[[Body], Any]


def serving_with(framework: str, headers: Mapping[str, str] = SSE_HEADERS) -> Serve:
    app, by = FRAMEWORKS[framework]
    return lambda body: by(app(body, headers))


# --- a client --------------------------------------------------------------------


@contextmanager
def requesting(port: int, last_event_id: str | None = None) -> Iterator[HTTPResponse]:
    """Yields a response whose body is not read yet; leaving the block disconnects."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=BOUND)) as connection:
        headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
        connection.request("GET", "/", headers=headers)
        with connection.getresponse() as response:
            yield response


def read_until(response: HTTPResponse, pattern: bytes) -> bytes:
    """Returns the body up to the line that contains this."""
    received = b""
    while pattern not in received:
        line = response.readline()
        assert line, received
        received += line
    return received
