"""Random conversations: every kind of turn, reader, interruption and failure, in several threads.

RXMISTRAL_SCRIPTS is the number of scripts, and RXMISTRAL_FIRST the seed of the first one.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
import reactivex
from faces import BOUND
from random_service import RandomService, text_of

from rxmistral import (
    Answer,
    Conversation,
    Mistral,
    MistralError,
    Stream,
    TextDelta,
    ToolMessage,
    answer_each,
)

_SEEDS = range(int(os.environ.get("RXMISTRAL_SCRIPTS", "25")))
_FIRST = int(os.environ.get("RXMISTRAL_FIRST", "0"))

ENDINGS = (MistralError, ZeroDivisionError)  # of an answer, by a failing service or tool
Taken = list[str]


class World:
    """A conversation, and threads that talk in it."""

    def __init__(self, service: RandomService, client: Mistral) -> None:
        self.service, self.client = service, client
        self.random = service.random
        self.taken: dict[str, tuple[Taken, str]] = {}  # with its reader, by the prompt
        self.failures: list[BaseException] = []
        self.is_marked = False
        self._numbers = itertools.count()
        when_busy = self.random.choice(["switch", "switch", "queue", "refuse"])
        bounds: list[dict[str, Any]] = [
            {},
            {},
            {"max_messages": self.random.randrange(1, 8)},
            {"trim": lambda messages: messages[-6:]},
        ]
        self.bounds = self.random.choice(bounds)
        self.options: dict[str, Any] = {
            "tools": service.tools(),
            "approve": service.approve(),
            "max_rounds": self.random.randrange(1, 4),
            "max_concurrency": self.random.choice([1, 8]),
            "interrupted_note": self.random.choice([None, "(cut)"]),
            "when_busy": when_busy,
            **self.bounds,
        }
        self.chat = Conversation(client, model="m", **self.options)

    def play(self) -> None:
        talkers = [threading.Thread(target=self.talk) for _ in range(self.random.choice([0, 0, 1]))]
        for each in talkers:
            each.start()
        self.talk()
        for each in talkers:
            each.join(BOUND)
        assert self.failures == []
        self.check(self.chat)
        if not self.bounds:
            self.check_taken()

    def talk(self) -> None:
        try:
            for _ in range(self.random.randrange(1, 5)):
                turns = [self.ask, self.ask, self.ask, self.speculate, self.pipe, self.copy]
                self.random.choice(turns)()
                self.check(self.chat)
        except BaseException as failure:
            self.failures.append(failure)

    def check(self, chat: Conversation) -> None:
        self.service.check_history(chat.messages)

    def check_taken(self) -> None:
        """Checks that the history has what the readers of the answers have taken."""
        texts: dict[str, str] = {}
        prompt = ""
        for message in self.chat.messages:
            if message.role == "user":
                prompt = text_of(message).rpartition("\n\n")[2]
            elif message.role == "assistant":
                text = text_of(message).replace("[interrupted]", "")
                texts[prompt] = texts.get(prompt, "") + text
        for prompt, (taken, reader) in self.taken.items():
            entered, received = texts.get(prompt, "").split(), "".join(taken).split()
            if reader == "dispose":  # the item during which it was disposed may have entered
                entered = entered[: max(len(received), len(entered) - 1)]
            assert entered == received, (prompt, reader)

    # --- turns ---

    def new_prompt(self) -> str:
        return f"prompt {next(self._numbers)}"

    def ask(self) -> None:
        prompt = self.new_prompt()
        answer = self.chat.ask(prompt)
        self.read(answer, prompt)
        if self.random.random() < 0.2:
            self.taken.pop(prompt, None)
            with suppress(ValueError):  # it has less text
                answer.delivered(self.random.randrange(8))
        self.answer_calls(self.chat, answer, prompt)

    def answer_calls(self, chat: Conversation, answer: Answer, prompt: str = "") -> None:
        calls = [] if answer.outcome is None else answer.outcome.tool_calls
        results = [
            ToolMessage(content="by the program", tool_call_id=call.id)
            for call in calls
            if self.random.random() < 0.8
        ]
        if results:
            self.taken.pop(prompt, None)  # this answer adds to that of the prompt
            with suppress(ValueError):  # another turn began meanwhile
                self.read(chat.ask(results))

    def speculate(self) -> None:
        prompt, final = self.new_prompt(), self.new_prompt()
        speculation = self.chat.speculate(prompt)
        time.sleep(self.random.choice([0, 0.002, 0.01]))
        match self.random.randrange(4):
            case 0:
                self.read(speculation.commit(), prompt)
            case 1:
                self.read(speculation.commit(final), final)
            case 2:
                speculation.retract()
            case _:
                pass  # dropped

    def pipe(self) -> None:
        prompts = Stream.of(reactivex.of(self.new_prompt(), self.new_prompt()))
        answers = prompts.pipe(
            answer_each(
                self.chat.ask,
                self.random.choice(["switch", "queue"]),
                on_error=lambda _prompt, _error: None,
            )
        )
        subscription = answers.subscribe(on_error=lambda _: None)
        time.sleep(self.random.choice([0.002, 0.02]))
        subscription.dispose()

    def copy(self) -> None:
        data, fork = self.chat.to_json(), self.chat.fork()
        again = Conversation.from_json(data, self.client, model="m", tools=self.service.tools())
        assert Conversation.from_json(again.to_json(), self.client, model="m").messages == (
            again.messages
        )
        for chat in (fork, again):
            self.check(chat)
        chat = self.random.choice([fork, again])
        answer = chat.ask("copied")
        self.read(answer)
        self.answer_calls(chat, answer)
        self.check(chat)

    # --- readers ---

    def read(self, answer: Answer, prompt: str = "") -> None:
        """Reads an answer in one of many ways, while something may happen to it."""
        taken: Taken = []
        exact = [self.loop_text, self.loop_parts, self.loop_async, self.cancel, self.dispose]
        other = [self.sentences, self.speak, self.twice, self.block]
        read = self.random.choice(exact * 2 + other)
        timer = threading.Timer(self.random.choice([0.003, 0.02, 0.05]), self.interrupt, [answer])
        timer.start()
        try:
            with suppress(*ENDINGS):
                read(answer, taken, self.random.choice([0, 1, 2, 3, 1000, 1000]))
        finally:
            timer.join(BOUND)
        if read in exact and prompt:
            self.taken[prompt] = taken, read.__name__

    def interrupt(self, answer: Answer) -> None:
        try:
            self.check(self.chat)
            if self.random.random() < 0.4:
                asked = self.chat.ask(self.new_prompt())
                closing = threading.Timer(0.02, asked.close)
                closing.start()
                with suppress(*ENDINGS):
                    for _ in asked.text():
                        break
                closing.join(BOUND)
            self.check(self.chat)
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            answer.close()  # it may hang, or wait for another one

    def loop_text(self, answer: Answer, taken: Taken, limit: int) -> None:
        for piece in answer.text():
            taken.append(piece)
            if len(taken) >= limit:
                break

    def loop_parts(self, answer: Answer, taken: Taken, limit: int) -> None:
        for number, part in enumerate(answer):
            if isinstance(part, TextDelta):
                taken.append(part.text)
            if number >= limit:
                break

    def loop_async(self, answer: Answer, taken: Taken, limit: int) -> None:
        async def read() -> None:
            # Within, since an error of `asyncio.run` refers to itself, and to an answer that it
            # refused, until the garbage collector runs.
            with suppress(*ENDINGS):
                async for piece in answer.text():
                    taken.append(piece)
                    if len(taken) >= limit:
                        break

        asyncio.run(read())

    def cancel(self, answer: Answer, taken: Taken, limit: int) -> None:
        async def main() -> None:
            async def read() -> None:
                async for part in answer:
                    if isinstance(part, TextDelta):
                        taken.append(part.text)

            task = asyncio.create_task(read())
            await asyncio.sleep(limit / 500 if limit < 10 else 0.03)
            task.cancel()
            with suppress(asyncio.CancelledError, *ENDINGS):
                await task

        asyncio.run(main())

    def dispose(self, answer: Answer, taken: Taken, limit: int) -> None:
        ended = threading.Event()

        def on_next(piece: str) -> None:
            taken.append(piece)
            if len(taken) >= limit:
                subscription.dispose()

        def end(_: object = None) -> None:
            ended.set()

        subscription = reactivex.disposable.SerialDisposable()
        subscription.disposable = answer.text().subscribe(on_next, end, end)
        ended.wait(0.03)
        subscription.dispose()

    def sentences(self, answer: Answer, taken: Taken, limit: int) -> None:
        for sentence in answer.text().sentences():
            taken.append(sentence)
            if len(taken) >= limit:
                break

    def speak(self, answer: Answer, taken: Taken, limit: int) -> None:
        async def speak(sentence: str) -> str:
            await asyncio.sleep(0.001)
            taken.append(sentence)
            if len(taken) < 3:  # as far as the voice knows what it has said
                answer.delivered(text="".join(taken))
            return sentence

        stream = answer.text().words().map_async(speak)
        if limit < 2:
            asyncio.run(_awaited(stream))
        else:
            list(stream)

    def twice(self, answer: Answer, taken: Taken, limit: int) -> None:
        subscription = answer.subscribe(on_error=lambda _: None)
        try:
            self.loop_text(answer, taken, limit)
        finally:
            subscription.dispose()

    def block(self, answer: Answer, taken: Taken, limit: int) -> None:
        with answer:
            self.loop_text(answer, taken, limit)
            self.loop_parts(answer, taken, limit)


async def _awaited(stream: Stream[str]) -> None:
    with suppress(*ENDINGS):
        async for _ in stream:
            pass


@pytest.mark.parametrize("seed", _SEEDS)
def test_random_conversation_can_always_be_sent(seed: int) -> None:
    service = RandomService(seed + _FIRST)
    with service.server as server, Mistral(server_url=server.url, api_key="k") as client:
        World(service, client).play()
    service.check()
