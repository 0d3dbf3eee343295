"""Random conversations: rounds, tools that fail, readers that leave, prompts that interrupt."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from faces import BOUND
from pairing import problems

from rxmistral import (
    Answer,
    Conversation,
    Mistral,
    MistralError,
    TextDelta,
    ToolError,
    UserMessage,
    tool,
)
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

_SEEDS = range(int(os.environ.get("RXMISTRAL_SCRIPTS", "25")))
_FIRST = int(os.environ.get("RXMISTRAL_FIRST", "0"))


class World:
    """A server with random answers, tools that count their calls, and a conversation."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = itertools.count()
        self.calls: Counter[int] = Counter()
        self.wrong: list[object] = []
        self.server = ScriptedServer(self.script)

    def tools(self) -> list[Callable[..., object]]:
        @tool
        def fast(x: int) -> int:
            self.calls[x] += 1
            return x

        @tool
        async def slow(x: int) -> str:
            self.calls[x] += 1
            await asyncio.sleep(self.random.choice([0, 0.002, 0.02]))
            return "done"

        @tool
        def failing(x: int) -> None:
            self.calls[x] += 1
            raise ToolError("not now")

        @tool
        def broken(x: int) -> None:
            self.calls[x] += 1
            raise ZeroDivisionError

        return [fast, slow, failing, broken]

    def script(self, request: ReceivedRequest) -> Script:
        messages = request.json["messages"]
        found = problems(messages)
        if found or messages[-1]["role"] not in ("user", "tool"):
            self.wrong.append((found, messages))
        choose, script = self.random, [steps.role()]
        if choose.random() < 0.2:
            script.append(steps.thinking("Hm"))
        for _ in range(choose.randrange(5)):
            script.append(choose.choice(["ab ", "c", "d. ", " "]))
            if choose.random() < 0.3:
                script.append(steps.wait(0.001))
        ending = choose.random()
        if ending < 0.45:
            names = ["fast", "slow", "fast", "slow", "failing", "broken", "unknown"]
            for index in range(choose.randrange(1, 4)):
                number = next(self.numbers)
                identity = choose.choice([None, f"call{number:05}", "same00000"])
                script.append(
                    steps.tool_call(
                        name=choose.choice(names),
                        arguments={"x": number},
                        id=identity,
                        index=index,
                    )
                )
            if choose.random() < 0.8:
                script.append(steps.finish("tool_calls"))
            return [*script, steps.done()]
        if ending < 0.6:
            return [*script, steps.drop() if ending < 0.53 else steps.hang()]
        return [*script, "end" if choose.random() < 0.5 else "", steps.finish(), steps.done()]

    def play(self, chat: Conversation) -> None:
        for number in range(self.random.randrange(2, 6)):
            answer = chat.ask(f"prompt {number}")
            wait = self.random.choice([0.005, 0.03])
            interrupt = threading.Timer(wait, self.interrupt, [chat, answer])
            interrupt.start()
            taken: list[str] = []
            limit = self.random.choice([0, 1, 2, 3, 1000])
            try:
                with suppress(MistralError, ZeroDivisionError):
                    self.random.choice([self.loop_text, self.loop_parts, self.loop_async])(
                        answer, taken, limit
                    )
                if self.random.random() < 0.3:
                    answer.delivered(self.random.randrange(8))
            finally:
                interrupt.join(BOUND)
            assert problems(ending(chat)) == []

    def interrupt(self, chat: Conversation, answer: Answer) -> None:
        if self.random.random() < 0.6:
            asked = chat.ask("interrupting")
            closing = threading.Timer(0.02, asked.close)
            closing.start()
            with suppress(MistralError, ZeroDivisionError):
                for _ in asked.text():
                    break
            closing.join(BOUND)
        else:
            self.wrong += problems(ending(chat))
            answer.close()

    def loop_text(self, answer: Answer, taken: list[str], limit: int) -> None:
        for piece in answer.text():
            taken.append(piece)
            if len(taken) >= limit:
                break

    def loop_parts(self, answer: Answer, taken: list[str], limit: int) -> None:
        for part in answer:
            if isinstance(part, TextDelta):
                taken.append(part.text)
            if len(taken) >= limit:
                break

    def loop_async(self, answer: Answer, taken: list[str], limit: int) -> None:
        async def read() -> None:
            async for piece in answer.text():
                taken.append(piece)
                if len(taken) >= limit:
                    break

        asyncio.run(read())


def ending(chat: Conversation) -> list[object]:
    """Returns the history with a user message, where one may follow."""
    messages = [*chat.messages]
    if messages and messages[-1].role not in ("user", "tool"):
        return [*messages, UserMessage(content="?")]
    return [*messages]


@pytest.mark.parametrize("seed", _SEEDS)
def test_random_conversation_can_always_be_sent(seed: int) -> None:
    world = World(seed + _FIRST)
    with world.server as server, Mistral(server_url=server.url, api_key="k") as client:
        chat = Conversation(client, model="m", tools=world.tools(), max_rounds=3)
        world.play(chat)
        assert problems(ending(chat)) == []
        restored = Conversation.from_json(chat.to_json(), client, model="m")
        assert restored.messages == chat.messages
    assert world.wrong == []
    assert all(count == 1 for count in world.calls.values())
