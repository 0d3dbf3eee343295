"""The relay in the hands of real frameworks, over real sockets, with a real answer behind it.

A WSGI server learns that its client has gone when it sends something, which a heartbeat
is; an ASGI server learns it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

import pytest
from faces import BOUND, eventually
from runs import Recorded
from servers import FRAMEWORKS, Serve, asking, read_until, serving_with

from rxmistral import Mistral, Stream, text
from rxmistral.relay import server_sent_events
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import decode_events

SEEN_BY_SENDING = {"flask", "wsgi"}


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def serve(framework: str) -> Serve:
    return serving_with(framework)


Ask = Callable[..., tuple[ScriptedServer, Stream[str]]]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """A service with a script, and the text of its answer."""
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


def test_the_whole_answer_arrives_and_the_response_ends(serve: Serve, ask: Ask) -> None:
    _, answer = ask([steps.role(), "Hel", "lo, ", "wörld\n\n", steps.finish(), steps.done()])
    with serve(lambda _: server_sent_events(answer)) as port, asking(port) as response:
        assert response.getheader("Content-Type") == "text/event-stream"
        events = list(decode_events([response.read()]))
    assert [event.data for event in events] == [
        '"Hel"',
        '"lo, "',
        '"wörld\\n\\n"',
        '{"status":"completed"}',
    ]


def test_a_heartbeat_arrives_before_the_first_token(serve: Serve, ask: Ask) -> None:
    _, answer = ask([steps.role(), steps.hang()])
    body = lambda _: server_sent_events(answer, heartbeat=0.01)  # noqa: E731
    with serve(body) as port, asking(port) as response:
        assert read_until(response, b": heartbeat\n")
        assert read_until(response, b": heartbeat\n")


def test_an_answer_that_breaks_is_a_response_that_ends(serve: Serve, ask: Ask) -> None:
    _, answer = ask(["Hel", steps.drop()])
    with serve(lambda _: server_sent_events(answer)) as port, asking(port) as response:
        *_, end = decode_events([response.read()])
    assert end.event == "end"
    assert '"status":"dropped"' in end.data


@pytest.mark.parametrize("reader", ["thread", "shared"], indirect=True)
def test_a_client_that_goes_away_stops_the_generation(
    framework: str, serve: Serve, ask: Ask
) -> None:
    service, answer = ask([steps.role(), "Hel", steps.hang()])
    heartbeat = 0.02 if framework in SEEN_BY_SENDING else None
    with serve(lambda _: server_sent_events(answer, heartbeat=heartbeat)) as port:
        with asking(port) as response:
            read_until(response, b'"Hel"')
        (request,) = service.requests
        assert request.wait_closed(BOUND)
        assert request.cut


def test_a_client_that_goes_away_in_a_flood_stops_the_generation(serve: Serve, ask: Ask) -> None:
    service, answer = ask([steps.role(), *["token "] * 50_000, steps.hang()])
    with serve(lambda _: server_sent_events(answer, heartbeat=0.02)) as port:
        with asking(port) as response:
            read_until(response, b"id: 100\n")
        (request,) = service.requests
        assert request.wait_closed(BOUND)


def test_a_shared_generation_goes_on_and_the_client_comes_back(serve: Serve, ask: Ask) -> None:
    back = Event()

    def script(request: ReceivedRequest) -> Script:
        return ["One, ", "two, ", steps.wait(0), "three.", steps.finish(), steps.done()]

    service, answer = ask(script)
    run = Recorded(answer.do_action(lambda token: token != "three." or back.wait(BOUND)))
    body = lambda last: server_sent_events(run, last_event_id=last, heartbeat=0.02)  # noqa: E731
    with serve(body) as port:
        with asking(port) as response:
            read_until(response, b'"two, "\n')
        back.set()
        assert eventually(lambda: run.ended)
        with asking(port, last_event_id="2") as response:
            events = list(decode_events([response.read()]))
    assert [(event.id, event.data) for event in events] == [
        ("3", '"three."'),
        ("3", '{"status":"completed"}'),
    ]
    assert len(service.requests) == 1
