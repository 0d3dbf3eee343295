"""Reads answers with rxmistral: through each face, and through pipes of several lengths."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from reactivex import operators as ops
from ways import MODEL, PROMPT, Consume, Way

from rxmistral import Mistral, Stream, UserMessage, sentences, text

PAUSE = 0.001  # seconds that the sleeping loop sleeps


def choices_of(event: Any) -> Any:
    return event.data.choices


def content_of(choices: Any) -> Any:
    return choices[0].delta.content


PIPES: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "completions": (),
    "text": (text(),),
    "sentences": (text(), sentences(language="en")),
    "5 operators": (
        ops.map(choices_of),
        ops.filter(bool),
        ops.map(content_of),
        ops.filter(bool),
        ops.map(str.upper),
    ),
}


def open_client(url: str) -> Mistral:
    return Mistral(server_url=url)


def open_threaded_client(url: str) -> Mistral:
    return Mistral(server_url=url, reader="thread")


def ask(pipe: str, client: Mistral) -> Stream[Any]:
    answer = client.chat.stream(model=MODEL, messages=[UserMessage(content=PROMPT)])
    stream: Stream[Any] = answer.pipe(*PIPES[pipe])
    return stream


def subscribe(pipe: str, client: Mistral, consume: Consume) -> None:
    subscribe_many(pipe, client, 1, consume)


def subscribe_many(pipe: str, client: Mistral, count: int, consume: Consume) -> None:
    ended: SimpleQueue[Exception | None] = SimpleQueue()
    for _ in range(count):
        ask(pipe, client).subscribe(consume, ended.put, lambda: ended.put(None))
    for _ in range(count):
        error = ended.get()
        if error is not None:
            raise error


async def subscribe_on_loop(pipe: str, client: Mistral, consume: Consume) -> None:
    """Subscribes in a task of an event loop, which waits for the end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exception | None] = loop.create_future()

    def end(error: Exception | None = None) -> None:
        loop.call_soon_threadsafe(ended.set_result, error)

    ask(pipe, client).subscribe(consume, end, end)
    error = await ended
    if error is not None:
        raise error


def loop(pipe: str, client: Mistral, consume: Consume) -> None:
    for item in ask(pipe, client):
        consume(item)


async def async_loop(pipe: str, client: Mistral, consume: Consume) -> None:
    async for item in ask(pipe, client):
        consume(item)


async def sleeping_loop(client: Mistral, consume: Consume) -> None:
    async for item in ask("text", client):
        consume(item)
        await asyncio.sleep(PAUSE)


def ways(pipe: str, open_client: Callable[[str], Mistral]) -> dict[str, Way]:
    many = partial(subscribe_many, pipe)
    return {
        f"subscribe, {pipe}": Way(open_client, partial(subscribe, pipe), many),
        f"subscribe on a loop, {pipe}": Way(open_client, partial(subscribe_on_loop, pipe)),
        f"for, {pipe}": Way(open_client, partial(loop, pipe)),
        f"async for, {pipe}": Way(open_client, partial(async_loop, pipe)),
    }


WAYS = {"async for, sleeping": Way(open_client, sleeping_loop)}
for _pipe in PIPES:
    WAYS |= ways(_pipe, open_client)
    WAYS |= {f"{name}, threads": way for name, way in ways(_pipe, open_threaded_client).items()}
