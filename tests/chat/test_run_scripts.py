"""Random runs, which are left, cancelled and closed at any moment, on any face.

RXMISTRAL_SCRIPTS is the number of scripts, and RXMISTRAL_FIRST the seed of the first one.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest
from faces import BOUND, eventually
from leftovers import our_threads
from random_service import RandomService

from rxmistral import (
    AnswerEnded,
    Mistral,
    MistralError,
    Part,
    RoundEnded,
    RoundLimitError,
    RunStream,
    StoppedError,
    ToolCallReady,
    ToolFailed,
    ToolReturned,
    UserMessage,
)

_SEEDS = range(int(os.environ.get("RXMISTRAL_SCRIPTS", "25")))
_FIRST = int(os.environ.get("RXMISTRAL_FIRST", "0"))


class Reading:
    """One run, read in one of many ways."""

    def __init__(self, service: RandomService, run: RunStream) -> None:
        self.service, self.run = service, run
        self.random = service.random
        self.parts: list[Part] = []
        self.limit = self.random.choice([1, 3, 6, 12, 1000, 1000])

    def read(self) -> Exception | None:
        """Returns the error of the run, if it has one."""
        readers = [self.loop, self.loop_async, self.cancel, self.dispose, self.close, self.block]
        try:
            with suppress(asyncio.CancelledError):
                self.random.choice(readers)()
        except (MistralError, ZeroDivisionError) as error:
            return error
        return None

    def take(self, part: Part) -> bool:
        self.parts.append(part)
        self.check()
        return len(self.parts) >= self.limit

    def check(self) -> None:
        """Checks the history, in which only an ended run has open calls."""
        messages, outcome = self.run.messages, self.run.outcome
        is_open = outcome is not None and bool(outcome.tool_calls)
        self.service.check_history(messages, ["declared"] if is_open else [])

    # --- readers ---

    def loop(self) -> None:
        for part in self.run:
            if self.take(part):
                break

    async def _loop(self) -> None:
        async for part in self.run:
            if self.take(part):
                break

    def loop_async(self) -> None:
        asyncio.run(self._loop())

    def cancel(self) -> None:
        async def main() -> None:
            task = asyncio.create_task(self._loop())
            await asyncio.sleep(self.random.choice([0, 0.003, 0.02]))
            task.cancel()
            await task

        asyncio.run(main())

    def dispose(self) -> None:
        ended = threading.Event()
        subscription = self.run.subscribe(self.take, lambda _: ended.set(), ended.set)
        ended.wait(self.random.choice([0, 0.003, 0.02]))
        subscription.dispose()

    def close(self) -> None:
        timer = threading.Timer(self.random.choice([0.003, 0.02]), self.run.close)
        timer.start()
        try:
            self.loop()
        finally:
            timer.join(BOUND)

    def block(self) -> None:
        with self.run:
            self.run.text().subscribe(on_error=lambda _: None)
            self.loop()


def check_parts(parts: Sequence[Part], error: Exception | None) -> None:
    """Checks the order of the parts, and that each call has at most one result."""
    numbers = [part.number for part in parts if isinstance(part, RoundEnded)]
    assert numbers == [*range(1, len(numbers) + 1)]
    ready = [part.call.id for part in parts if isinstance(part, ToolCallReady)]
    results = [part.call.id for part in parts if isinstance(part, (ToolReturned, ToolFailed))]
    assert len(set(ready)) == len(ready)
    assert len(set(results)) == len(results)
    assert set(results) <= set(ready)
    assert not any(isinstance(part, AnswerEnded) for part in parts[:-1])
    if error is not None and not isinstance(error, StoppedError):  # of a block that was closed
        assert isinstance(parts[-1], AnswerEnded)
        assert parts[-1].status not in ("completed", "cancelled")


@pytest.mark.parametrize("seed", _SEEDS)
def test_random_run_leaves_a_valid_history(seed: int) -> None:
    service = RandomService(seed + _FIRST)
    random = service.random
    with service.server as server, Mistral(server_url=server.url, api_key="k") as client:
        run = client.chat.run(
            model="m",
            messages=[UserMessage(content="Hi")],
            tools=service.tools(),
            approve=service.approve(),
            max_rounds=random.randrange(1, 4),
            max_concurrency=random.choice([1, 2, 8]),
        )
        hung = threading.Timer(0.1, run.close)  # if the service hangs
        hung.start()
        reading = Reading(service, run)
        error = reading.read()
        hung.cancel()
        hung.join(BOUND)
        # A loop that was closed at once may subscribe a little later, and then has an outcome.
        assert eventually(lambda: run.outcome is not None or not our_threads())
        after, parts = run.messages, len(reading.parts)
        reading.check()
        check_parts(reading.parts, error)
        if isinstance(error, RoundLimitError):
            assert error.messages == after
        time.sleep(random.choice([0, 0.01]))  # time for events that must not happen
        assert run.messages == after
        assert len(reading.parts) == parts
    service.check()
