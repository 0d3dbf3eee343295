"""Hundreds of answers at once with every ending, on every face, left at random moments: each
subscription has exactly its ending, and nothing is left behind."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from faces import BOUND, eventually
from leftovers import our_threads
from reactivex import abc
from reactivex import operators as ops

from rxmistral import (
    ChunkError,
    DroppedStreamError,
    IncompleteStreamError,
    Limit,
    Mistral,
    MistralError,
    ProtocolError,
    ReportedError,
    RequestError,
    RequestTimeoutError,
    StatusError,
    StreamTimeoutError,
    Timeouts,
    UserMessage,
    text,
)
from rxmistral.chat.event_stream import EventStream
from rxmistral.rx.stream import Stream
from rxmistral.testing import Script, ScriptedServer, steps

ANSWERS = 180
SLOTS = 40
TIMEOUTS = Timeouts(first=3.0, gap=3.0)

Ending = type[Exception] | None  # None: completed

PAUSE = steps.wait(0.01)
HELLO: Script = [steps.role(), "Hel", PAUSE, "lo"]
ANSWER: dict[str, tuple[Script, Ending]] = {
    "whole": ([*HELLO, steps.finish(), steps.done()], None),
    "at once": ([steps.role(), "Hel", "lo", steps.finish(), steps.done()], None),
    "late end": ([*HELLO, steps.finish(), PAUSE, steps.done(), PAUSE], None),
    "long": ([*HELLO, steps.text(*["!"] * 3000), steps.finish(), steps.done()], None),
    "compressed": ([steps.header("Content-Encoding", "identity"), *HELLO, steps.finish()], None),
    "incomplete": (HELLO, IncompleteStreamError),
    "dropped": ([*HELLO, steps.drop()], DroppedStreamError),
    "reset": ([*HELLO, steps.abort()], DroppedStreamError),
    "reported": ([*HELLO, steps.error("overloaded")], ReportedError),
    "broken": ([*HELLO, steps.raw(b"data: {\n\n")], ChunkError),
    "a page": ([steps.raw(b"<html>"), steps.end()], ProtocolError),
    "refused": ([steps.status(400)], StatusError),
    "silent": ([*HELLO, steps.hang()], StreamTimeoutError),
    "never begins": ([steps.hang()], RequestTimeoutError),
    "callback": ([*HELLO, steps.hang()], ZeroDivisionError),
}


def answer_of(request: Any) -> Script:
    return ANSWER[request.json["messages"][0]["content"]][0]


def ask(client: Mistral, kind: str) -> EventStream:
    return client.chat.stream(model="m", messages=[UserMessage(content=kind)])


def text_of(stream: EventStream, kind: str) -> Stream[str]:
    def fail(piece: str) -> None:
        if kind == "callback" and piece == "lo":
            raise ZeroDivisionError

    return stream.pipe(text(), ops.do_action(fail))


class Reading:
    """One answer that is read, or left at a random moment; and what was received of it."""

    def __init__(self, client: Mistral, number: int) -> None:
        dice = random.Random(number)
        self.kind = dice.choice(list(ANSWER))
        self.leaves_after = dice.choice([None, dice.random() * 0.05])  # seconds
        self.answer = ask(client, self.kind)
        self.stream = text_of(self.answer, self.kind)
        self.text = ""
        self.endings: list[Exception | None] = []
        self.was_left = threading.Event()
        self.is_over = threading.Event()
        self.closers: Executor | None = None  # that close the response while it is read
        self.on_first_item: Callable[[], None] | None = None

    def on_next(self, piece: str) -> None:
        assert not self.endings
        if not self.text and self.closers is not None:
            self.closers.submit(self.answer.response.close)
        if not self.text and self.on_first_item is not None:
            self.on_first_item()
        self.text += piece

    def end(self, error: Exception | None = None) -> None:
        self.endings.append(error)
        self.is_over.set()

    def leave(self) -> None:
        self.was_left.set()
        self.is_over.set()

    def check(self, *faults: type[Exception]) -> None:
        """Checks the ending; an injected fault may have replaced it."""
        expected = ANSWER[self.kind][1]
        outcome = f"{self.kind}: {self.endings}, {self.text[:9]!r}"
        assert len(self.endings) <= 1, outcome
        assert self.endings or self.was_left.is_set(), outcome
        if self.endings and not (faults and isinstance(self.endings[0], faults)):
            (error,) = self.endings
            assert type(error) is (expected or type(None)), outcome
            if error is None:
                assert self.text.startswith("Hello"), outcome


# --- the faces: each reads all answers at the same time ---


def by_subscribing(readings: list[Reading]) -> None:
    """Other threads dispose the subscriptions."""
    subscriptions: list[tuple[Reading, abc.DisposableBase]] = []

    def leave(reading: Reading, subscription: abc.DisposableBase) -> None:
        if reading.leaves_after is not None and not reading.is_over.wait(reading.leaves_after):
            subscription.dispose()
            reading.leave()

    with ThreadPoolExecutor(16) as others:
        for each in readings:
            subscription = each.stream.subscribe(each.on_next, each.end, each.end)
            subscriptions.append((each, subscription))
            others.submit(leave, each, subscription)
        for each in readings:
            assert each.is_over.wait(BOUND), each.kind


def by_for(readings: list[Reading]) -> None:
    """Timers close the streams, which ends their loops."""

    def read(each: Reading) -> None:
        def leave() -> None:
            each.leave()
            each.stream.close()

        timer = threading.Timer(each.leaves_after or BOUND, leave)
        timer.daemon = True
        timer.start()
        try:
            for piece in each.stream:
                each.on_next(piece)
            if not each.was_left.is_set():
                each.end()
        except Exception as error:
            each.end(error)
        timer.cancel()

    threads = [threading.Thread(target=read, args=(each,), daemon=True) for each in readings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()


async def read_all(readings: list[Reading]) -> None:
    async def read(each: Reading) -> None:
        try:
            async with asyncio.timeout(each.leaves_after):
                async for piece in each.stream:
                    each.on_next(piece)
            each.end()
        except TimeoutError as error:
            if isinstance(error, MistralError):
                each.end(error)
            else:
                each.leave()
        except Exception as error:
            each.end(error)

    async with asyncio.timeout(BOUND):
        await asyncio.gather(*map(read, readings))


def by_async_for(readings: list[Reading]) -> None:
    """Two event loops in two threads; tasks are cancelled."""
    half = len(readings) // 2
    with ThreadPoolExecutor(2) as loops:
        runs = [
            loops.submit(lambda part: asyncio.run(read_all(part)), part)
            for part in (readings[:half], readings[half:])
        ]
        for each in runs:
            each.result()


Face = Callable[[list[Reading]], None]
FACES: list[Face] = [by_subscribing, by_for, by_async_for]


@pytest.fixture(params=FACES)
def read_many(request: pytest.FixtureRequest) -> Face:
    face: Face = request.param
    return face


@pytest.fixture
def client() -> Iterator[Mistral]:
    """A client that has released everything at the end of its test."""
    limit = Limit(concurrent=SLOTS)
    with ScriptedServer(answer_of) as server:
        with Mistral(server_url=server.url, limit=limit, timeouts=TIMEOUTS) as client:
            yield client
            assert eventually(lambda: "(0 in use, 0 waiting)" in repr(limit)), limit
            assert eventually(lambda: not our_threads()), our_threads()
            assert "".join(ask(client, "whole").pipe(text())) == "Hello"
        assert server.wait_idle(BOUND)


# --- all endings ---


def test_each_of_many_answers_has_its_own_ending(client: Mistral, read_many: Face) -> None:
    """The program closes each third response while it is read, which ends no other."""
    readings = [Reading(client, number) for number in range(ANSWERS)]
    with ThreadPoolExecutor(4) as closers:
        for each in readings[::3]:
            each.closers = closers
        read_many(readings)
    for each in readings:
        each.check(*([] if each.closers is None else [DroppedStreamError]))


def test_each_answer_ends_when_threads_run_out(
    client: Mistral, read_many: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(3)
    start = threading.Thread.start

    def start_sometimes(thread: threading.Thread) -> None:
        if thread.name.startswith("rxmistral-") and dice.random() < 0.3:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_sometimes)
    readings = [Reading(client, number) for number in range(ANSWERS)]
    read_many(readings)
    monkeypatch.undo()
    for each in readings:
        each.check(RequestError, DroppedStreamError)


# --- descriptors and forks, in a process of their own ---

the_limit = Limit(concurrent=SLOTS)


def use_up_descriptors(first_item: threading.Event, is_over: threading.Event) -> None:
    """Opens all descriptors, again and again for a moment."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
    assert first_item.wait(BOUND)
    while not is_over.wait(0.02):
        opened = []
        with suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))  # it raises
        is_over.wait(0.01)
        for each in opened:
            os.close(each)


def fork_children(first_item: threading.Event, is_over: threading.Event) -> None:
    """Forks children that ask, too."""
    assert first_item.wait(BOUND)
    while not is_over.wait(0.02):
        child = os.fork()
        if not child:
            faulthandler.dump_traceback_later(BOUND / 2, exit=True)
            client = Mistral(server_url=sys.argv[1], limit=the_limit)
            os._exit(0 if "".join(ask(client, "whole").pipe(text())) == "Hello" else 3)
        assert os.waitpid(child, 0)[1] == 0


def read_disturbed(disturb: Callable[..., None], *faults: type[Exception]) -> None:
    """Runs in a process of its own."""
    first_item, is_over = threading.Event(), threading.Event()
    with Mistral(server_url=sys.argv[1], limit=the_limit, timeouts=TIMEOUTS) as client:
        readings = [Reading(client, number) for number in range(ANSWERS)]
        for each in readings:
            each.on_first_item = first_item.set
        with ThreadPoolExecutor(len(FACES) + 1) as others:
            disturbing = others.submit(disturb, first_item, is_over)
            parts = [readings[number :: len(FACES)] for number in range(len(FACES))]
            for each_face in [*map(others.submit, FACES, parts)]:
                each_face.result()
            is_over.set()
            disturbing.result()
        for each in readings:
            each.check(*faults)
        assert eventually(lambda: "(0 in use, 0 waiting)" in repr(the_limit)), the_limit
        assert eventually(lambda: not our_threads()), our_threads()


@pytest.mark.skipif(sys.platform == "win32", reason="there is neither")
@pytest.mark.parametrize(
    "disturbance",
    ["fork_children", "use_up_descriptors, MistralError"],
    ids=["fork", "descriptors"],
)
def test_each_answer_ends_in_a_disturbed_process(disturbance: str) -> None:
    program = f"from test_stress import *; read_disturbed({disturbance})"
    with ScriptedServer(answer_of) as server:
        command = [sys.executable, "-c", program, server.url]
        subprocess.run(command, check=True, timeout=2 * BOUND, cwd=os.path.dirname(__file__))
        assert server.wait_idle(BOUND)
