"""A chat page whose answers are shared by all tabs, late and reloaded ones included.

    python examples/web_chat/app.py                         the demo server answers
    MISTRAL_API_KEY=... python examples/web_chat/app.py     Mistral answers

    POST /runs {"prompt": ...}  ──▶  runs[id]: prompt, thinking, text, sentences, with ids
    DELETE /runs/id  ──▶  stop             │
                                           ├──▶  GET /runs/id/events    a tab, from the first item on
                                           └──▶  GET /runs/id/events    a tab, after Last-Event-ID

Needs starlette, uvicorn, and rxmistral[sentences].
"""

import os
import secrets
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import reactivex
import uvicorn
from reactivex import Observable
from reactivex import operators as ops
from reactivex.scheduler import ImmediateScheduler
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rxmistral import (
    CompletionEvent,
    Mistral,
    SharedStream,
    UserMessage,
    sentences,
    text,
    thinking,
)
from rxmistral.demo import demo_server
from rxmistral.relay import SSE_HEADERS, server_sent_events

PAGE = Path(__file__).with_name("index.html")
MAX_RUNS = 100  # when there are more, the oldest is stopped and removed
# A run without a viewer goes on for so long: a reload, or a tunnel, is shorter. If all tabs are
# closed, nobody will read what you would pay for.
LINGER_SECONDS = 30


class Question(msgspec.Struct):
    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]


class Piece(msgspec.Struct):
    """An item for the page. A sentence follows the text that it consists of."""

    kind: Literal["prompt", "thinking", "text", "sentence"]
    text: str


def pieces(answer: Observable[CompletionEvent]) -> Observable[Piece]:
    """Returns the thinking, the text and the sentences of one answer, merged."""
    forms = (
        answer.pipe(thinking()).map(lambda thought: Piece("thinking", thought)),
        answer.pipe(text()).map(lambda token: Piece("text", token)),
        answer.pipe(text(), sentences()).map(lambda sentence: Piece("sentence", sentence)),
    )
    # Subscribes to all three at once: `reactivex.merge` may do so after the answer has begun.
    return reactivex.from_iterable(forms, ImmediateScheduler.singleton()).pipe(ops.merge_all())


class Chat:
    """The runs, in memory, and the routes of the page."""

    def __init__(self, client: Mistral, model: str) -> None:
        self._client = client
        self._model = model
        self._runs: dict[str, SharedStream[Piece]] = {}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/runs", self.start, methods=["POST"]),
                Route("/runs/{id}/events", self.events),
                Route("/runs/{id}", self.stop, methods=["DELETE"]),
            ],
            # Prevents DNS rebinding: another site may let its name resolve to this machine.
            middleware=[Middleware(TrustedHostMiddleware, ["127.0.0.1", "localhost"])],
        )

    async def page(self, _: Request) -> Response:
        return FileResponse(PAGE)

    async def start(self, request: Request) -> Response:
        # A page of another site can send this type only if CORS allows it, which it does not.
        if request.headers.get("Content-Type") != "application/json":
            raise HTTPException(415)
        try:
            question = msgspec.json.decode(await request.body(), type=Question)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HTTPException(400, str(error)) from error
        run_id = secrets.token_urlsafe(12)  # a secret: with it, anyone can read and stop the answer
        self._runs[run_id] = self._ask(question.prompt)
        if len(self._runs) > MAX_RUNS:
            self._runs.pop(next(iter(self._runs))).stop()
        return JSONResponse({"id": run_id}, status_code=201)

    async def events(self, request: Request) -> Response:
        last_event_id = request.headers.get("Last-Event-ID")
        body = server_sent_events(self._run(request), last_event_id=last_event_id)
        return StreamingResponse(body, headers=SSE_HEADERS)

    async def stop(self, request: Request) -> Response:
        self._run(request).stop()
        return Response(status_code=204)

    def _ask(self, prompt: str) -> SharedStream[Piece]:
        """Returns a run; its one request is sent when the first tab reads it."""
        message = UserMessage(content=prompt)
        answer = self._client.chat.stream(model=self._model, messages=[message])
        items = answer.pipe(ops.publish(pieces), ops.start_with(Piece("prompt", prompt)))
        return items.shared(linger=LINGER_SECONDS)

    def _run(self, request: Request) -> SharedStream[Piece]:
        run = self._runs.get(request.path_params["id"])
        if run is None:
            raise HTTPException(404)
        return run


def options() -> Namespace:
    parser = ArgumentParser(description="Serve a chat page on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    parser.add_argument(
        "--model", default="mistral-small-latest", help="a model that thinks shows its thoughts"
    )
    parser.add_argument("--server-url", metavar="URL", help="any compatible server")
    return parser.parse_args()


@contextmanager
def service(url: str | None) -> Iterator[Mistral]:
    """Yields a client of the server at this URL, or of Mistral, or without a key of a demo server."""
    if url or "MISTRAL_API_KEY" in os.environ:
        with Mistral(server_url=url) as client:
            yield client
    else:
        with demo_server() as server, Mistral(server_url=server.url) as client:
            yield client


def main() -> None:
    chosen = options()
    with service(chosen.server_url) as client:
        print(f"http://127.0.0.1:{chosen.port}", flush=True)
        uvicorn.run(
            Chat(client, chosen.model).app(),
            port=chosen.port,
            log_level="warning",
            timeout_graceful_shutdown=1,  # seconds; an open tab would never disconnect
        )


if __name__ == "__main__":
    main()
