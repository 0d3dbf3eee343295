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

from rxmistral import CompletionEvent, Mistral, Stream, UserMessage, sentences, text, thinking
from rxmistral.demo import demo_server
from rxmistral.relay import SSE_HEADERS, server_sent_events
from rxmistral.stream import SharedStream

PAGE = Path(__file__).with_name("index.html")
KEPT = 100  # runs; the oldest of more is forgotten
# Seconds that a run goes on unwatched: a reload and a train's tunnel are shorter. When all
# tabs are closed nobody will read what you would pay for.
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


def chat(client: Mistral, model: str) -> Starlette:
    """The application, with its runs in memory."""
    runs: dict[str, SharedStream[Piece]] = {}

    def ask(prompt: str) -> SharedStream[Piece]:
        answer = client.chat.stream(model=model, messages=[UserMessage(content=prompt)])
        # One request, which is sent when the first tab reads.
        return answer.pipe(ops.publish(pieces), ops.start_with(Piece("prompt", prompt))).shared(
            linger=LINGER
        )

    def run_of(request: Request) -> SharedStream[Piece]:
        try:
            return runs[request.path_params["id"]]
        except KeyError:
            raise HTTPException(404) from None

    async def page(_: Request) -> Response:
        return FileResponse(PAGE)

    async def start(request: Request) -> Response:
        # No page of another site may send this type without asking us, and we allow none.
        if request.headers.get("Content-Type") != "application/json":
            raise HTTPException(415)
        try:
            question = msgspec.json.decode(await request.body(), type=Question)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HTTPException(400, str(error)) from error
        run_id = secrets.token_urlsafe(12)  # who knows it can read the answer, and stop it
        runs[run_id] = ask(question.prompt)
        if len(runs) > KEPT:
            runs.pop(next(iter(runs))).stop()
        return JSONResponse({"id": run_id}, status_code=201)

    async def events(request: Request) -> Response:
        run: Stream[Piece] = run_of(request)
        last_event_id = request.headers.get("Last-Event-ID")
        body = server_sent_events(run, last_event_id=last_event_id)
        return StreamingResponse(body, headers=SSE_HEADERS)

    async def stop(request: Request) -> Response:
        run_of(request).stop()
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/runs", start, methods=["POST"]),
            Route("/runs/{id}/events", events),
            Route("/runs/{id}", stop, methods=["DELETE"]),
        ],
        # A name of another site that leads to this machine does not make it the same site.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


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
            chat(client, chosen.model),
            port=chosen.port,
            log_level="warning",
            timeout_graceful_shutdown=1,  # seconds; an open tab would never go by itself
        )


if __name__ == "__main__":
    main()
