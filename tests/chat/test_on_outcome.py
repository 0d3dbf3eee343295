"""The hook `on_outcome` of a client, and the logger."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from faces import BOUND, Face, eventually

from rxmistral import Mistral, Outcome, Resume, Retry, UserMessage
from rxmistral.testing import Script, ScriptedServer, steps

KEY = "a-key-of-twenty-letters"
MESSAGES = [UserMessage(content="a private prompt")]
ENDINGS: dict[str, Script] = {
    "completed": ["Hello", steps.finish(), steps.done()],
    "refused": [steps.status(429)],
    "truncated": ["Hel"],
    "dropped": ["Hel", steps.drop()],
    "reported": ["Hel", steps.error("busy")],
}


@pytest.fixture
def outcomes() -> list[Outcome]:
    return []


@pytest.mark.parametrize("status", ENDINGS)
def test_each_ending_is_reported_once(status: str, outcomes: list[Outcome], read: Face) -> None:
    with (
        ScriptedServer(lambda _: ENDINGS[status]) as server,
        Mistral(KEY, server_url=server.url, on_outcome=outcomes.append) as client,
    ):
        read(client.chat.stream(model="m", messages=MESSAGES).text())
        read(client.chat.stream(model="m", messages=MESSAGES))
    assert [each.status for each in outcomes] == [status] * 2


def test_cancelled_answers_are_reported_once(outcomes: list[Outcome]) -> None:
    with (
        ScriptedServer(lambda _: ["Hel", steps.hang()]) as server,
        Mistral(server_url=server.url, on_outcome=outcomes.append) as client,
    ):
        for _ in client.chat.stream(model="m", messages=MESSAGES).text():
            break
        with client.chat.stream(model="m", messages=MESSAGES) as answer:
            assert next(iter(answer.text())) == "Hel"
        received = threading.Event()
        subscription = client.chat.stream(model="m", messages=MESSAGES).subscribe(
            lambda _: received.set()
        )
        assert received.wait(BOUND)
        subscription.dispose()
        subscription.dispose()
        abandoned: Iterator[Any] = iter(client.chat.stream(model="m", messages=MESSAGES))
        next(abandoned)
        del abandoned
        assert eventually(lambda: gc.collect() >= 0 and len(outcomes) == 4)
    assert [(each.status, each.text) for each in outcomes] == [("cancelled", "Hel")] * 4


def test_attempts_of_one_answer_are_one_outcome(outcomes: list[Outcome]) -> None:
    scripts: list[Script] = [[steps.status(503)], ["Hel", steps.drop()], ["lo", steps.done()]]
    with (
        ScriptedServer(*scripts) as server,
        Mistral(
            server_url=server.url,
            retry=Retry(initial=0.001),
            resume=Resume(),
            on_outcome=outcomes.append,
        ) as client,
    ):
        assert client.chat.stream(model="m", messages=MESSAGES).text().join().run() == "Hello"
    (outcome,) = outcomes
    assert (outcome.requests, outcome.resumed, outcome.text) == (3, 1, "Hello")


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit])
def test_exception_of_the_hook_is_logged(
    caplog: pytest.LogCaptureFixture, read: Face, kind: type[BaseException]
) -> None:
    def fail(_: Outcome) -> None:
        raise kind

    with (
        ScriptedServer(ENDINGS["completed"]) as server,
        Mistral(server_url=server.url, on_outcome=fail) as client,
    ):
        assert read(client.chat.stream(model="m", messages=MESSAGES).text())[0] == "Hello"
    assert kind.__name__ in caplog.text


def test_hook_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_outcome"):
        Mistral(KEY, on_outcome="print")  # type: ignore[arg-type]


def test_log_shows_each_step_but_no_content(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "rxmistral")
    scripts: list[Script] = [[steps.status(503)], ["Hel", steps.drop()], ["lo", steps.done()]]
    with (
        ScriptedServer(*scripts) as server,
        Mistral(KEY, server_url=server.url, retry=Retry(initial=0.001), resume=Resume()) as client,
    ):
        client.chat.stream(model="m", messages=MESSAGES).text().run()
    shown = "\n".join(
        record.getMessage() for record in caplog.records if record.name == "rxmistral"
    )
    for step in (
        "sending request 3",
        "status 503",
        "first token",
        "retry in",
        "resume 1",
        "ended",
    ):
        assert step in shown
    for secret in (KEY, "private", "Hel"):
        assert secret not in shown
