"""Conversations in the child of a fork, which has none of the threads of their readers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from faces import BOUND, eventually

from rxmistral import Conversation, DroppedStreamError, Mistral
from rxmistral.rx.delivery import lock
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def script(request: ReceivedRequest) -> Script:
    if "hang" in request.json["messages"][-1]["content"]:
        return [steps.role(), "One.", steps.hang()]
    return [steps.role(), "Hello", steps.finish(), steps.done()]


@pytest.fixture
def client() -> Iterator[Mistral]:
    with ScriptedServer(script) as server, Mistral(server_url=server.url, api_key="k") as client:
        yield client


def check_in_child(work: Callable[[], None]) -> None:
    """Runs a function in a forked child, and checks that it returns."""
    child = os.fork()
    if not child:
        signal.alarm(int(BOUND))
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("when_busy", ["switch", "queue", "refuse"])
def test_child_goes_on_with_a_busy_conversation(client: Mistral, when_busy: str) -> None:
    def work() -> None:
        assert [each.content for each in chat.messages] == ["hang", "One."]
        assert list(chat.ask("b").text()) == ["Hello"]
        assert [each.content for each in chat.messages] == ["hang", "One.", "b", "Hello"]

    chat = Conversation(client, model="m", when_busy=when_busy)  # type: ignore[arg-type]
    running, received = chat.ask("hang"), list[str]()
    running.text().subscribe(received.append, lambda _: None)
    assert eventually(lambda: received == ["One."])
    if when_busy == "queue":
        waiting = chat.ask("hang")
        waiting.subscribe()
    check_in_child(work)
    assert running.outcome is None
    running.close()
    if when_busy == "queue":
        waiting.close()


def test_child_ignores_a_lock_of_another_thread(client: Mistral) -> None:
    def work() -> None:
        assert list(chat.ask("b").text()) == ["Hello"]
        assert len(chat.messages) == 4

    def hold() -> None:
        with lock:
            held.set()
            release.wait(BOUND)

    chat = Conversation(client, model="m")
    list(chat.ask("a"))
    held, release = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(BOUND)
    try:
        check_in_child(work)
    finally:
        release.set()
        holder.join(BOUND)


def test_loop_that_a_child_inherits_ends(client: Mistral) -> None:
    def work() -> None:
        with pytest.raises(DroppedStreamError):
            next(loop)
        assert list(chat.ask("b").text()) == ["Hello"]

    chat = Conversation(client, model="m", when_busy="queue")
    loop = iter(chat.ask("hang").text())
    assert next(loop) == "One."
    check_in_child(work)
    loop.close()  # type: ignore[attr-defined]
