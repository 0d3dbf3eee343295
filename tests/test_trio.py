"""Under trio and anyio: the recipe of an example is cancelled at once, and leaves nothing.

On asyncio, anyio needs no recipe: its tasks read a Stream as asyncio's do.
"""

from __future__ import annotations

import runpy
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from faces import BOUND

from rxmistral import DroppedStreamError, Mistral, Stream, UserMessage, text
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

T = TypeVar("T")

END: Any = object()


EXAMPLE = Path(__file__).parents[1] / "examples" / "read_on_trio.py"
items = runpy.run_path(str(EXAMPLE))["items"]


async def items_with_anyio(stream: Stream[T]) -> AsyncGenerator[T, None]:
    with stream as opened:
        iterator = iter(opened)
        while True:
            item = await anyio.to_thread.run_sync(next, iterator, END, abandon_on_cancel=True)
            if item is END:
                return
            yield item


async def as_it_is(stream: Stream[T]) -> AsyncGenerator[T, None]:
    async for item in stream:
        yield item


Recipe = Callable[[Stream[Any]], AsyncGenerator[Any, None]]
WAYS: dict[str, tuple[Recipe, str]] = {
    "trio": (items, "trio"),
    "anyio on trio": (items_with_anyio, "trio"),
    "anyio on asyncio": (items_with_anyio, "asyncio"),
    "anyio on asyncio, as it is": (as_it_is, "asyncio"),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def way(request: pytest.FixtureRequest) -> tuple[Recipe, str]:
    return request.param


def run(way: tuple[Recipe, str], main: Callable[[Recipe], Awaitable[None]]) -> None:
    recipe, backend = way
    anyio.run(main, recipe, backend=backend)


def answer(request: ReceivedRequest) -> Script:
    match request.json["messages"][-1]["content"]:
        case "before the headers":
            return [steps.hang()]
        case "in the middle":
            return [steps.role(), "Hel", steps.hang()]
        case "break":
            return [steps.role(), "Hel", steps.drop()]
        case _:
            return [steps.role(), *map(str, range(100)), steps.finish(), steps.done()]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer) as server:
        yield server


@pytest.fixture
def ask(server: ScriptedServer) -> Iterator[Callable[[str], Stream[str]]]:
    with Mistral(server_url=server.url) as client:
        yield lambda prompt: client.chat.stream(
            model="m", messages=[UserMessage(content=prompt)]
        ).pipe(text())


Ask = Callable[[str], Stream[str]]


def test_trio_receives_all_items_in_order(way: tuple[Recipe, str], ask: Ask) -> None:
    async def main(items: Recipe) -> None:
        assert [token async for token in items(ask("all"))] == [*map(str, range(100))]

    run(way, main)


def test_trio_raises_the_error_after_the_items(way: tuple[Recipe, str], ask: Ask) -> None:
    async def main(items: Recipe) -> None:
        received = []
        with pytest.raises(DroppedStreamError):
            async for token in items(ask("break")):
                received.append(token)  # noqa: PERF401  # keeps the items before the error
        assert received == ["Hel"]

    run(way, main)


@pytest.mark.parametrize("phase", ["before the headers", "in the middle"])
def test_cancel_scope_closes_the_socket(
    way: tuple[Recipe, str], phase: str, ask: Ask, server: ScriptedServer
) -> None:
    async def main(items: Recipe) -> None:
        has_item = anyio.Event()

        async def read() -> None:
            async with aclosing(items(ask(phase))) as tokens:
                async for _ in tokens:
                    has_item.set()

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.to_thread.run_sync(server.wait_for_requests, 1)
            if phase == "in the middle":
                await has_item.wait()
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(server.requests[0].wait_closed, BOUND)

    run(way, main)


def test_break_closes_the_socket(way: tuple[Recipe, str], ask: Ask, server: ScriptedServer) -> None:
    async def main(items: Recipe) -> None:
        async with aclosing(items(ask("in the middle"))) as tokens:
            async for _ in tokens:
                break
        assert await anyio.to_thread.run_sync(server.requests[0].wait_closed, BOUND)

    run(way, main)


def test_many_streams_are_read_and_cancelled_at_once(
    way: tuple[Recipe, str], ask: Ask, server: ScriptedServer
) -> None:
    async def main(items: Recipe) -> None:
        async def read() -> None:
            async with aclosing(items(ask("in the middle"))) as tokens:
                async for _ in tokens:
                    pass

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(read)
            await anyio.to_thread.run_sync(server.wait_for_requests, 20)
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(server.wait_idle, BOUND)

    run(way, main)
