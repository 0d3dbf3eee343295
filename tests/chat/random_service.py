"""A service with random answers, and tools that count their calls."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from pairing import problems

from rxmistral import Tool, ToolCall, ToolError, UserMessage, tool
from rxmistral.models import Function
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, Step, steps

DECLARED = Tool(function=Function(name="declared", parameters={}))
_NAMES = ["fast", "slow", "progress", "failing", "blocking", "broken", "unknown", "declared"]
_WEIGHTS = [4, 4, 2, 2, 2, 1, 1, 2]


class RandomService:
    """A server and tools for one script, whose random numbers depend on the seed.

    Attributes:
        calls: How often a tool has run, by the number that is its argument.
        wrong: What the service would refuse, with the request.
        texts: What it has sent as the text of each answer; no piece is sent twice.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.calls: Counter[int] = Counter()
        self.wrong: list[object] = []
        self.texts: list[str] = []
        self.server = ScriptedServer(self._script)
        self._numbers = itertools.count()

    # --- the tools ---

    def tools(self) -> list[Callable[..., object] | Tool]:
        @tool
        def fast(x: int) -> int:
            self.calls[x] += 1
            return x

        @tool
        async def slow(x: int) -> str:
            self.calls[x] += 1
            await asyncio.sleep(self._delay())
            return "done"

        @tool
        def blocking(x: int) -> str:
            self.calls[x] += 1
            time.sleep(self._delay())
            return "done"

        @tool
        async def progress(x: int) -> AsyncIterator[str]:
            self.calls[x] += 1
            for item in "abc":
                yield item
                await asyncio.sleep(self._delay() / 4)

        @tool
        def failing(x: int) -> None:
            self.calls[x] += 1
            raise ToolError("not now")

        @tool
        def broken(x: int) -> None:
            self.calls[x] += 1
            raise ZeroDivisionError

        return [fast, slow, blocking, progress, failing, broken, DECLARED]

    def approve(self) -> Callable[[ToolCall], bool | str | Awaitable[bool | str]] | None:
        def approve(_: ToolCall) -> bool | str:
            time.sleep(self._delay() / 4)
            return self.random.choice([True, True, False, "too dear"])

        async def approve_async(_: ToolCall) -> bool | str:
            await asyncio.sleep(self._delay() / 4)
            return self.random.choice([True, True, False, "too dear"])

        return self.random.choice([None, None, approve, approve_async])

    def _delay(self) -> float:
        return self.random.choice([0, 0.002, 0.02])

    # --- the answers ---

    def _script(self, request: ReceivedRequest) -> Script:
        messages = request.json["messages"]
        found = problems(messages)
        if found or messages[-1]["role"] not in ("user", "tool"):
            self.wrong.append((found, messages))
        choose = self.random.random
        script: list[Step | str] = [steps.role()]
        if choose() < 0.2:
            script.append(steps.thinking("Hm"))
        script += self._pieces()
        if choose() < 0.45:
            script += self._calls()
        script += ["" if choose() < 0.5 else " ", steps.finish(), steps.usage(1, 1), steps.done()]
        self.texts.append("".join(each for each in script if isinstance(each, str)))
        if choose() < 0.25:
            breaks = [
                steps.drop(),
                steps.hang(),
                steps.end(),
                steps.error("overloaded"),
                steps.raw(b"data: {\n\n"),
                steps.status(503),
            ]
            broken = self.random.choice(breaks)
            at = 0 if broken is breaks[-1] else self.random.randrange(len(script) + 1)
            script[at:] = [broken]
        return script

    def _pieces(self) -> list[Step | str]:
        pieces: list[Step | str] = []
        for _ in range(self.random.choice([0, 0, 1, 2, 3, 4, 12])):
            pieces.append(self.random.choice(["{}, ", "{}. ", " ", "{}"]).format(self._number()))
            if self.random.random() < 0.3:
                pieces.append(steps.wait(0.001))
        return pieces

    def _calls(self) -> list[Step | str]:
        calls: list[Step | str] = []
        for index in range(self.random.randrange(1, 5)):
            number = next(self._numbers)
            call = steps.tool_call(
                name=self.random.choices(_NAMES, _WEIGHTS)[0],
                arguments={"x": number},
                id=self.random.choice([None, f"call{number:05}", "same00000"]),
                index=index,
            )
            calls.append(call)
        return [*calls, steps.finish("tool_calls")] if self.random.random() < 0.8 else calls

    def _number(self) -> str:
        return f"<{next(self._numbers)}>"

    # --- what must hold ---

    def check(self) -> None:
        assert self.wrong == []
        assert all(count == 1 for count in self.calls.values()), "a tool ran twice"

    def check_history(self, messages: Sequence[Any], declared: Sequence[str] = ()) -> None:
        """Checks a history once a user message follows, or as it is if none may follow yet."""
        messages = list(messages)
        if messages and messages[-1].role == "assistant" and not declared:
            messages.append(UserMessage(content="?"))
        assert problems(messages, declared) == []
        for message in messages:
            if message.role == "assistant":
                for text in filter(None, text_of(message).split("\n\n")):
                    is_sent = any(sent.startswith(text) for sent in list(self.texts))
                    assert is_sent or text == "[interrupted]", f"never sent: {text!r}"


def text_of(message: Any) -> str:
    content = message.content or ""
    if isinstance(content, str):
        return content
    return "".join(getattr(each, "text", "") for each in content)
