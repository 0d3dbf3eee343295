"""Read a Stream on trio: a cancel scope closes the socket at once.

On trio a thread of the event loop's pool waits for each item, and the `with` block lets a cancel
scope reach the socket. Each open stream occupies one of trio's threads, of which there are 40
unless you pass a `limiter=`. With anyio on trio, use `anyio.to_thread` instead. On asyncio,
anyio's tasks read a Stream with `async for` as it is.

Needs trio.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

import trio

from rxmistral import Mistral, Stream, UserMessage

T = TypeVar("T")
END: Any = object()


async def items(stream: Stream[T]) -> AsyncGenerator[T, None]:
    with stream as opened:  # leaving it closes the socket and frees the thread
        iterator = iter(opened)
        while True:
            item = await trio.to_thread.run_sync(next, iterator, END, abandon_on_cancel=True)
            if item is END:
                return
            yield item


async def main() -> None:
    answer = Mistral.demo().chat.stream(
        model="mistral-small-latest", messages=[UserMessage(content="Count forever.")]
    )
    with trio.move_on_after(2):  # seconds
        async with aclosing(items(answer.text())) as tokens:
            async for token in tokens:
                print(token, end="", flush=True)
    print("enough")


if __name__ == "__main__":
    trio.run(main)
