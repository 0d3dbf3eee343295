"""A chat page, whose turns are shared by all tabs, late and reloaded ones included.

    python examples/web_chat/app.py                         the demo server answers
    MISTRAL_API_KEY=... python examples/web_chat/app.py     Mistral answers

    POST /runs {"prompt": ..., "after": id}  ──▶  a turn: its Conversation, and its run
    GET /runs/id  ──▶  the ids and the prompts of the turns up to this one
    GET /runs/id/events  ──▶  the parts of the answer; after Last-Event-ID, if it was sent
    DELETE /runs/id  ──▶  stops the answer

A turn never changes once it is over. The next turn continues a copy of its conversation. So a
prompt that is edited begins a branch: it follows the turn before the edited one.

Without a key, try "What time is it?", "Use your tools." and "Show me Markdown."

Needs starlette and uvicorn.
"""

import asyncio
import os
import secrets
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rxmistral import Conversation, Mistral, Part, SharedStream
from rxmistral.demo import demo_server
from rxmistral.relay import SSE_HEADERS, server_sent_events

PAGE = Path(__file__).with_name("page")
# Whatever a model writes, the page runs no script but its own, exchanges nothing with other sites,
# and turns no text into markup.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Referrer-Policy": "no-referrer",  # the address of the page is a secret
}
MAX_TURNS = 1000  # when there are more, the oldest is stopped and removed
# A run without a viewer goes on for so long: a reload, or a tunnel, is shorter. If all tabs are
# closed, nobody will read the rest, which you would pay for.
LINGER_SECONDS = 30


# --- tools -----------------------------------------------------------------------


def current_time() -> str:
    """Returns the date and the time, with the time zone."""
    return f"{datetime.now().astimezone():%A, %d %B %Y, %H:%M %Z}"


def days_until(day: date) -> int:
    """Returns the number of days from today to another day."""
    return (day - date.today()).days


async def egg_timer(seconds: Annotated[int, msgspec.Meta(ge=1, le=600)] = 3) -> AsyncIterator[str]:
    """Waits for some seconds."""
    for left in range(seconds, 0, -1):
        yield f"{left} s left"
        await asyncio.sleep(1)
    yield "The time is over."


# --- turns -----------------------------------------------------------------------


class Question(msgspec.Struct):
    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]
    after: str | None = None  # the id of the turn that it follows; None: it begins a conversation


@dataclass
class Turn:
    question: Question
    chat: Conversation  # up to this turn
    run: SharedStream[Part]  # its one request is sent when the first tab reads it


class Chat:
    """The turns, in memory, and the routes of the page."""

    def __init__(self, client: Mistral, model: str) -> None:
        self._client = client
        self._model = model
        self._turns: dict[str, Turn] = {}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/runs", self.start, methods=["POST"]),
                Route("/runs/{id}", self.path),
                Route("/runs/{id}", self.stop, methods=["DELETE"]),
                Route("/runs/{id}/events", self.events),
                Mount("/", StaticFiles(directory=PAGE)),
            ],
            # Prevents DNS rebinding: another site may let its name resolve to this machine.
            middleware=[Middleware(TrustedHostMiddleware, ["127.0.0.1", "localhost"])],
        )

    async def page(self, _: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)

    async def start(self, request: Request) -> Response:
        # A page of another site can send this type only if CORS allows it, which it does not.
        if request.headers.get("Content-Type") != "application/json":
            raise HTTPException(415)
        try:
            question = msgspec.json.decode(await request.body(), type=Question)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HTTPException(400, str(error)) from error
        chat = self._conversation(question.after)
        run = chat.ask(question.prompt).shared(linger=LINGER_SECONDS)
        turn_id = secrets.token_urlsafe(12)  # with it, anyone can read and stop the answer
        self._turns[turn_id] = Turn(question, chat, run)
        if len(self._turns) > MAX_TURNS:
            self._turns.pop(next(iter(self._turns))).run.stop()
        return JSONResponse({"id": turn_id}, status_code=201)

    async def path(self, request: Request) -> Response:
        """Returns the turns that lead to this one, the first of them at the front."""
        turns: list[dict[str, str]] = []
        turn_id: str | None = request.path_params["id"]
        while turn_id in self._turns:
            question = self._turns[turn_id].question
            turns.insert(0, {"id": turn_id, "prompt": question.prompt})
            turn_id = question.after
        if not turns:
            raise HTTPException(404)
        return JSONResponse({"turns": turns})

    async def events(self, request: Request) -> Response:
        run = self._turn(request.path_params["id"]).run
        body = server_sent_events(run, last_event_id=request.headers.get("Last-Event-ID"))
        return StreamingResponse(body, headers=SSE_HEADERS)

    async def stop(self, request: Request) -> Response:
        self._turn(request.path_params["id"]).run.stop()
        return Response(status_code=204)

    def _conversation(self, after: str | None) -> Conversation:
        """Returns a copy of the conversation of a turn, as far as it was received, or a new one."""
        if after is not None:
            return self._turn(after).chat.fork()
        return Conversation(
            self._client, model=self._model, tools=[current_time, days_until, egg_timer]
        )

    def _turn(self, id: str) -> Turn:
        if id not in self._turns:
            raise HTTPException(404)
        return self._turns[id]


# --- the server ------------------------------------------------------------------


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
