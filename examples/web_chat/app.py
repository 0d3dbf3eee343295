"""A chat page. Its answers are shared: by tabs that come late, and by a tab that is reloaded.

    python examples/web_chat/app.py                         a demo server answers
    MISTRAL_API_KEY=... python examples/web_chat/app.py     Mistral does

    POST /runs {"prompt": ...}  ──▶  runs[id]: prompt, thinking, text, sentences, all numbered
    DELETE /runs/id  ──▶  stop             │
                                           ├──▶  GET /runs/id/events    a tab, from the first one on
                                           └──▶  GET /runs/id/events    another, after Last-Event-ID

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
KEPT = 100  # runs; the oldest of more is stopped and forgotten
# Seconds that a run goes on when no tab watches: a reload, or a tunnel, is shorter; and when
# all tabs are closed, nobody will read what you would pay for.
LINGER = 30


class Question(msgspec.Struct):
    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]


class Piece(msgspec.Struct):
    """What the page is told. A sentence follows the text that it is made of."""

    kind: Literal["prompt", "thinking", "text", "sentence"]
    text: str


def pieces(answer: Observable[CompletionEvent]) -> Observable[Piece]:
    """One answer in three forms."""
    forms = (
        answer.pipe(thinking()).map(lambda thought: Piece("thinking", thought)),
        answer.pipe(text()).map(lambda token: Piece("text", token)),
        answer.pipe(text(), sentences()).map(lambda sentence: Piece("sentence", sentence)),
    )
    # At once: `reactivex.merge` may begin with them after the answer has.
    return reactivex.from_iterable(forms, ImmediateScheduler.singleton()).pipe(ops.merge_all())


class Chat:
    """The runs, in memory, and what the page asks of them."""

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
            # Another site may give its name to this machine; that makes it none of ours.
            middleware=[Middleware(TrustedHostMiddleware, ["127.0.0.1", "localhost"])],
        )

    async def page(self, _: Request) -> Response:
        return FileResponse(PAGE)

    async def start(self, request: Request) -> Response:
        # A page of another site may not send this type unless we allow it, which we do not.
        if request.headers.get("Content-Type") != "application/json":
            raise HTTPException(415)
        try:
            question = msgspec.json.decode(await request.body(), type=Question)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HTTPException(400, str(error)) from error
        run_id = secrets.token_urlsafe(12)  # who knows it can read the answer, and stop it
        self._runs[run_id] = self._ask(question.prompt)
        if len(self._runs) > KEPT:
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
        """A run; its one request is sent when the first tab reads."""
        message = UserMessage(content=prompt)
        answer = self._client.chat.stream(model=self._model, messages=[message])
        told = answer.pipe(ops.publish(pieces), ops.start_with(Piece("prompt", prompt)))
        return told.shared(linger=LINGER)

    def _run(self, request: Request) -> SharedStream[Piece]:
        run = self._runs.get(request.path_params["id"])
        if run is None:
            raise HTTPException(404)
        return run


def options() -> Namespace:
    parser = ArgumentParser(description="Serve a chat page on this machine, and to it alone.")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    parser.add_argument("--model", default="mistral-small-latest", help="one that thinks shows it")
    parser.add_argument("--server-url", metavar="URL", help="any server that speaks the same")
    return parser.parse_args()


@contextmanager
def service(url: str | None) -> Iterator[Mistral]:
    """The service at this address; or Mistral; or, without a key, a demo server."""
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
            timeout_graceful_shutdown=1,  # seconds; an open tab would never go by itself
        )


if __name__ == "__main__":
    main()
