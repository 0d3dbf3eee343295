"""Print two answers concurrently as they arrive, on one event loop."""

import asyncio

from rxmistral import Mistral, UserMessage


async def print_answer(client: Mistral, prompt: str) -> None:
    answer = client.chat.stream(
        model="mistral-small-latest", messages=[UserMessage(content=prompt)]
    )
    async for token in answer.text():
        print(f"{prompt} {token!r}")


async def main() -> None:
    async with Mistral() as client:
        await asyncio.gather(
            print_answer(client, "Write a haiku about rivers."),
            print_answer(client, "Write a haiku about threads."),
        )


asyncio.run(main())
