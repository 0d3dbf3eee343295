"""Reads answers with OpenAI's SDK."""

from __future__ import annotations

from openai import AsyncOpenAI, OpenAI
from ways import MODEL, PROMPT, Consume, Way


def open_client(url: str) -> OpenAI:
    return OpenAI(api_key="key", base_url=url + "/v1")


def open_async_client(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(api_key="key", base_url=url + "/v1")


def loop(client: OpenAI, consume: Consume) -> None:
    chunks = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": PROMPT}], stream=True
    )
    for chunk in chunks:
        content = chunk.choices[0].delta.content
        if content:
            consume(content)


async def async_loop(client: AsyncOpenAI, consume: Consume) -> None:
    chunks = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": PROMPT}], stream=True
    )
    async for chunk in chunks:
        content = chunk.choices[0].delta.content
        if content:
            consume(content)


WAYS = {"for": Way(open_client, loop), "async for": Way(open_async_client, async_loop)}
