"""Everything that a subscription calls runs in a copy of the subscriber's context."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context, ContextVar
from functools import partial
from typing import Any

import pytest
import reactivex
from faces import BOUND, FACES, by_for, eventually, run
from reactivex import operators as ops

from rxmistral import (
    MemoryLog,
    Mistral,
    Retry,
    Stream,
    UserMessage,
    answer_each,
    coalesced,
    from_async_iterable,
    from_log,
    on_outcome,
    paced,
    sentences,
    text,
    to_log,
    until_finished,
)
from rxmistral.relay import server_sent_events
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire.reader import READERS, Session

ANSWER = [steps.role(), "One. ", "Two. ", "Three.", steps.finish("stop"), steps.done()]

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Visit:
    """Work on a thread with a new context, as in a server that handles a request."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        self._results: list[Any] = []
        self._thread = threading.Thread(target=Context().run, args=(self._run, name, work))
        self._thread.start()

    def _run(self, name: str, work: Callable[[], Any]) -> None:
        tenant.set(name)
        self._results.append(work())

    def result(self) -> Any:
        self._thread.join(BOUND)
        assert self._results, "it has not ended, or has raised"
        return self._results[0]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda _: ANSWER) as server:
        yield server


@pytest.fixture(params=READERS)
def client(server: ScriptedServer, request: pytest.FixtureRequest) -> Iterator[Mistral]:
    with Mistral(tenant.get, server_url=server.url, reader=request.param) as client:
        yield client


def ask(client: Mistral, **options: Any) -> Any:
    return client.chat.stream(model="any", messages=[UserMessage(content="Hi")], **options)


def noting(seen: list[str]) -> Any:
    """Returns an operator that passes items unchanged and records the current tenant."""
    return ops.map(lambda item: (seen.append(tenant.get()), item)[1])


async def twice(item: Any) -> AsyncIterator[Any]:
    yield item
    await asyncio.sleep(0)
    yield item


PIPES: dict[str, Callable[[list[str]], list[Any]]] = {
    "text": lambda _: [text()],
    "until_finished": lambda _: [until_finished()],
    "sentences": lambda _: [text(), sentences(max_wait=1e-4)],
    "paced": lambda _: [text(), paced(1e-4)],
    "coalesced": lambda _: [text(), coalesced(1e-4)],
    "relay": lambda _: [partial(server_sent_events, heartbeat=1e-4)],
    "log": lambda _: [text(), to_log(MemoryLog(), "run")],
    "async source": lambda _: [
        ops.concat_map(lambda item: from_async_iterable(partial(twice, item)))
    ],
    "answers": lambda seen: [
        text(),
        answer_each(lambda prompt: (seen.append(tenant.get()), reactivex.just(prompt))[1], "queue"),
    ],
}


@pytest.mark.parametrize("name", PIPES)
@pytest.mark.parametrize("face", FACES)
def test_two_subscriptions_each_run_in_their_own_context(
    client: Mistral, server: ScriptedServer, name: str, face: str
) -> None:
    both = threading.Barrier(2)

    def read() -> set[str]:
        seen: list[str] = []
        stream = ask(client).pipe(noting(seen), *PIPES[name](seen), noting(seen))
        both.wait(BOUND)
        FACES[face](stream)
        return set(seen)

    one, other = Visit("one", read), Visit("other", read)
    assert (one.result(), other.result()) == ({"one"}, {"other"})
    keys = sorted(request.headers["Authorization"] for request in server.requests)
    assert keys == ["Bearer one", "Bearer other"]


def test_callbacks_and_outcome_run_in_the_subscriber_s_context(client: Mistral) -> None:
    def read() -> set[str]:
        seen: list[str] = []
        ended = threading.Event()
        ask(client).pipe(on_outcome(lambda _: seen.append(tenant.get()))).subscribe(
            lambda _: seen.append(tenant.get()),
            None,
            lambda: (seen.append(tenant.get()), ended.set())[1],
        )
        assert ended.wait(BOUND)
        return set(seen)

    assert Visit("one", read).result() == {"one"}


def test_outcome_hook_of_a_cancelled_answer_has_its_context() -> None:
    seen: list[str] = []
    with (
        ScriptedServer([steps.hang()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        stream = ask(client).pipe(on_outcome(lambda _: seen.append(tenant.get())))
        Visit("one", stream.subscribe).result().dispose()
        assert eventually(lambda: bool(seen))
    assert seen == ["one"]


def test_hooks_and_policies_run_in_the_context_of_the_subscriber() -> None:
    seen: list[str] = []

    def note(*_: object, **__: object) -> None:
        seen.append(tenant.get())

    with ScriptedServer([steps.status(503)], ANSWER) as server, Session() as session:
        session.hooks["response"].append(note)
        client = Mistral(
            server_url=server.url, session=session, retry=Retry(initial=1e-3, on_retry=note)
        )
        Visit("one", lambda: by_for(ask(client))).result()
    assert seen == ["one"] * 3


def test_opened_answer_runs_in_the_context_of_its_reader(client: Mistral) -> None:
    with ask(client) as answer:
        assert Visit("one", lambda: answer.response.status_code).result() == 200

        def read() -> set[str]:
            seen: list[str] = []
            by_for(answer.pipe(noting(seen)))
            return set(seen)

        assert Visit("other", read).result() == {"other"}


def test_shared_run_has_the_context_of_its_first_viewer(
    client: Mistral, server: ScriptedServer
) -> None:
    of_run: list[str] = []
    answer = ask(client).pipe(noting(of_run), text()).shared()

    def view() -> set[str]:
        seen: list[str] = []
        ended = threading.Event()
        answer.subscribe(lambda _: seen.append(tenant.get()), None, ended.set)
        assert ended.wait(BOUND)
        return set(seen)

    assert Visit("one", view).result() == {"one"}
    assert Visit("other", view).result() == {"other"}
    assert set(of_run) == {"one"}
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer one"]


def test_reader_of_a_log_runs_in_the_context_of_its_subscriber() -> None:
    log = MemoryLog()
    Stream.of(reactivex.of("a", "b")).pipe(to_log(log, "run")).run()

    def read() -> set[str]:
        seen: list[str] = []
        ended = threading.Event()
        from_log(log, "run").subscribe(lambda _: seen.append(tenant.get()), None, ended.set)
        assert ended.wait(BOUND)
        return set(seen)

    assert Visit("one", read).result() == {"one"}


def test_tasks_of_one_loop_keep_their_contexts(client: Mistral, server: ScriptedServer) -> None:
    async def read(name: str) -> set[str]:
        tenant.set(name)
        seen: list[str] = []
        async for _ in ask(client).pipe(noting(seen), text()):
            seen.append(tenant.get())  # noqa: PERF401  # the loop is what is tested
        return set(seen)

    async def main() -> list[set[str]]:
        return await asyncio.gather(*map(read, ["one", "other"]))

    assert run(main()) == [{"one"}, {"other"}]


def test_variable_that_a_callback_sets_stays_in_its_subscription(client: Mistral) -> None:
    ended = threading.Event()
    ask(client).subscribe(lambda _: tenant.set("changed"), None, ended.set)
    assert ended.wait(BOUND)
    assert tenant.get() == "nobody"
