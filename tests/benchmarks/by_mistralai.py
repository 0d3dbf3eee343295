"""Reads answers with the official SDK."""

from __future__ import annotations

from mistralai.client import Mistral
from mistralai.client.models import UserMessage
from ways import MODEL, PROMPT, Consume, Way


def open_client(url: str) -> Mistral:
    return Mistral(api_key="key", server_url=url)


def loop(client: Mistral, consume: Consume) -> None:
    with client.chat.stream(model=MODEL, messages=[UserMessage(content=PROMPT)]) as events:
        for event in events:
            content = event.data.choices[0].delta.content
            if content:
                consume(content)


async def async_loop(client: Mistral, consume: Consume) -> None:
    answer = await client.chat.stream_async(model=MODEL, messages=[UserMessage(content=PROMPT)])
    async with answer as events:
        async for event in events:
            content = event.data.choices[0].delta.content
            if content:
                consume(content)


WAYS = {"for": Way(open_client, loop), "async for": Way(open_client, async_loop)}
