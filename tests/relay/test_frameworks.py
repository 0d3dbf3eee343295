"""Relays in real frameworks, over real sockets, with a streamed answer behind them.

A WSGI server notices that its client has disconnected when it sends something, such as a
heartbeat; an ASGI server notices at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

import pytest
from faces import BOUND
from servers import FRAMEWORKS, Serve, read_until, requesting, serving_with

from rxmistral import Mistral, Stream, text
from rxmistral.relay import server_sent_events
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import decode_events

DETECT_BY_SENDING = {"flask", "wsgi"}


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def serve(framework: str) -> Serve:
    return serving_with(framework)


Ask = Callable[..., tuple[ScriptedServer, Stream[str]]]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Starts a service with a script; returns it and the text of its answer."""
    opened: list[ScriptedServer | Mistral] = []

    def ask(
        script: Script | Callable[[ReceivedRequest], Script],
    ) -> tuple[ScriptedServer, Stream[str]]:
        service = ScriptedServer(script).start()
        client = Mistral(server_url=service.url)
        opened.extend((client, service))
        messages = [{"role": "user", "content": "Hi"}]
        return service, client.chat.stream(model="m", messages=messages).pipe(text())

    yield ask
    for each in opened:
        each.__exit__(None, None, None)


def test_whole_answer_arrives_and_the_response_ends(serve: Serve, ask: Ask) -> None:
    _, answer = ask([steps.role(), "Hel", "lo, ", "wörld\n\n", steps.finish(), steps.done()])
    with serve(lambda _: server_sent_events(answer)) as port, requesting(port) as response:
        assert response.getheader("Content-Type") == "text/event-stream"
        events = list(decode_events([response.read()]))
    assert [event.data for event in events] == [
        '"Hel"',
        '"lo, "',
        '"wörld\\n\\n"',
        '{"status":"completed"}',
    ]


def test_heartbeat_arrives_before_the_first_token(serve: Serve, ask: Ask) -> None:
    _, answer = ask([steps.role(), steps.hang()])
    body = lambda _: server_sent_events(answer, heartbeat=0.01)  # noqa: E731
    with serve(body) as port, requesting(port) as response:
        assert read_until(response, b": heartbeat\n")
        assert read_until(response, b": heartbeat\n")


def test_response_ends_when_the_answer_breaks(serve: Serve, ask: Ask) -> None:
    _, answer = ask(["Hel", steps.drop()])
    with serve(lambda _: server_sent_events(answer)) as port, requesting(port) as response:
        *_, end = decode_events([response.read()])
    assert end.event == "end"
    assert '"status":"dropped"' in end.data


@pytest.mark.parametrize("reader", ["thread", "shared"], indirect=True)
def test_generation_stops_when_the_client_disconnects(
    framework: str, serve: Serve, ask: Ask
) -> None:
    service, answer = ask([steps.role(), "Hel", steps.hang()])
    heartbeat = 0.02 if framework in DETECT_BY_SENDING else None
    with serve(lambda _: server_sent_events(answer, heartbeat=heartbeat)) as port:
        with requesting(port) as response:
            read_until(response, b'"Hel"')
        (request,) = service.requests
        assert request.wait_closed(BOUND)
        assert request.cut


def test_generation_stops_when_the_client_disconnects_in_a_flood(serve: Serve, ask: Ask) -> None:
    service, answer = ask([steps.role(), *["token "] * 50_000, steps.hang()])
    with serve(lambda _: server_sent_events(answer, heartbeat=0.02)) as port:
        with requesting(port) as response:
            read_until(response, b"id: 100\n")
        (request,) = service.requests
        assert request.wait_closed(BOUND)


def test_reconnecting_client_resumes_a_run_that_went_on(serve: Serve, ask: Ask) -> None:
    reconnecting, ended = Event(), Event()

    def script(request: ReceivedRequest) -> Script:
        return ["One, ", "two, ", steps.wait(0), "three.", steps.finish(), steps.done()]

    service, answer = ask(script)
    paused = answer.do_action(lambda token: token != "three." or reconnecting.wait(BOUND))
    run = paused.finally_action(ended.set).shared()
    run.subscribe().dispose()  # begun here: the action would block the loop of the server
    body = lambda last: server_sent_events(run, last_event_id=last, heartbeat=0.02)  # noqa: E731
    with serve(body) as port:
        with requesting(port) as response:
            read_until(response, b'"two, "\n')
        reconnecting.set()
        assert ended.wait(BOUND)
        with requesting(port, last_event_id="2") as response:
            events = list(decode_events([response.read()]))
    assert [(event.id, event.data) for event in events] == [
        ("3", '"three."'),
        ("3", '{"status":"completed"}'),
    ]
    assert len(service.requests) == 1
