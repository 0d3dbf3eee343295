"""Subscriber: callbacks that it rejects at the call, and reports of unhandled errors."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import reactivex
from faces import BOUND
from reactivex import operators as ops

from rxmistral import Mistral, Retry, Stream, from_async_iterable, on_outcome


async def coroutine(*_: object) -> None:
    raise AssertionError("nobody awaits it")


async def asynchronous(*_: object) -> AsyncIterator[int]:
    yield 1


def generator(*_: object) -> Iterator[int]:
    yield 1


class Callback:
    async def __call__(self, *_: object) -> None:
        raise AssertionError("nobody awaits it")


class Observer:
    async def on_next(self, _: object) -> None: ...

    def on_error(self, _: object) -> None: ...

    def on_completed(self) -> None: ...


def stream() -> Stream[Any]:
    def subscribe(*_: object) -> Any:
        raise AssertionError("it was subscribed to")

    return Stream(subscribe)


CALLS: dict[str, Callable[[Any], object]] = {
    "on_next": lambda f: stream().subscribe(f),
    "on_error": lambda f: stream().subscribe(print, f),
    "on_completed": lambda f: stream().subscribe(on_completed=f),
    "of a pipe": lambda f: stream().map(str).subscribe(f),
    "do_action": lambda f: stream().do_action(f),
    "do_action in a pipe": lambda f: stream().pipe(ops.do_action(on_completed=f)),
    "finally_action": lambda f: stream().pipe(ops.finally_action(f)),
    "on_outcome": on_outcome,
    "on_retry": lambda f: Retry(on_retry=f),
    "api_key": lambda f: Mistral(f),
}
USELESS = {
    "coroutine function": coroutine,
    "partial": partial(coroutine, 1),
    "async generator function": asynchronous,
    "generator function": generator,
    "callable object": Callback(),
}


@pytest.mark.parametrize("function", USELESS.values(), ids=USELESS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_coroutine_function_is_rejected_at_the_call(
    call: Callable[[Any], object], function: Any
) -> None:
    with pytest.raises(TypeError, match="must be a plain function"):
        call(function)


def test_observer_with_an_async_method_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match="on_next must be a plain function, got an async one"):
        stream().subscribe(Observer())  # type: ignore[arg-type]


def test_operators_accept_functions_that_return_coroutines() -> None:
    made = Stream.of(reactivex.of(1)).map(coroutine).run()
    made.close()


PROGRAM = """
    import sys
    from rxmistral import Mistral, UserMessage, text
    from rxmistral.testing import ScriptedServer, steps

    def fail(token):
        raise ValueError("mine")

    with ScriptedServer({script}) as server, Mistral(server_url=server.url, reader={reader!r}) as client:
        answer = client.chat.stream(model="any", messages=[UserMessage(content="Hi")])
        answer.pipe(text()).subscribe({callback})
        server.requests and None
        import threading
        for thread in threading.enumerate():
            if thread.name == "rxmistral-reader":
                thread.join({bound})
"""


def report_of(**parts: Any) -> list[str]:
    program = textwrap.dedent(PROGRAM).format(bound=BOUND, **parts)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=6 * BOUND
    )
    return done.stderr.splitlines()


@pytest.mark.parametrize("reader", ["thread", "shared"])
def test_unhandled_error_is_reported_with_its_text_first(reader: str) -> None:
    lines = report_of(script="[steps.status(401)]", reader=reader, callback="print")
    assert lines[0].startswith(
        "rxmistral.errors.AuthenticationError: the service refused with status 401"
    )
    assert lines[1:] == [
        "not handled: subscribed without on_error at",
        '  File "<string>", line 11, in <module>',
    ]


OTHER_THREADS = {
    "log_reader": ("from_log(MemoryLog(lease=0.1), 'none')", "UnknownRunError"),
    "log_writer": ("failing.pipe(to_log(MemoryLog(), 'run'))", "KeyError"),
    "async_source": ("from_async_iterable(endless).map(fail)", "KeyError"),
    "timer": (
        "Stream.of(reactivex.of('a') + reactivex.never()).pipe(sentences(max_wait=0.01)).map(fail)",
        "KeyError",
    ),
}


@pytest.mark.parametrize(("stream", "error"), OTHER_THREADS.values(), ids=OTHER_THREADS)
def test_unhandled_error_is_brief_on_every_thread_of_the_library(stream: str, error: str) -> None:
    program = f"""
        import reactivex, sys, threading
        from rxmistral import *

        failing = Stream.of(reactivex.throw(KeyError("mine")))

        def fail(item):
            raise KeyError("mine")

        async def endless():
            while True:
                yield "a"

        class Written(threading.Event):
            def write(self, report):
                sys.__stderr__.write(report)
                self.set()

        sys.stderr = written = Written()
        Stream.of({stream}).subscribe(print)
        written.wait({BOUND})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=6 * BOUND,
    )
    lines = done.stderr.splitlines()
    assert error in lines[0]
    assert lines[1].startswith("not handled: subscribed without on_error at")


@pytest.mark.parametrize("reader", ["thread", "shared"])
def test_unhandled_error_of_a_callback_is_reported_with_its_line(reader: str) -> None:
    lines = report_of(script='[steps.role(), "Hi", steps.done()]', reader=reader, callback="fail")
    assert lines[0] == "ValueError: mine"
    assert lines[-2:] == ["raised at", '  File "<string>", line 7, in fail']


NOT_OURS = """
    import threading
    import reactivex
    from reactivex import operators as ops
    from rxmistral import Stream, from_async_iterable

    def fail(item):
        raise ValueError("mine")

    async def broken():
        raise ValueError("mine")
        yield

    {subscribe}
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join({bound})
"""


@pytest.mark.parametrize(
    "subscribe",
    [
        "Stream.of(reactivex.of(1)).pipe(ops.delay(0.01)).subscribe(fail)",
        "Stream.of(reactivex.timer(0.01)).subscribe(fail)",
        "from_async_iterable(broken).subscribe(print)",
    ],
)
def test_unhandled_error_is_brief_for_every_caller(subscribe: str) -> None:
    program = textwrap.dedent(NOT_OURS).format(subscribe=subscribe, bound=BOUND)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=6 * BOUND
    )
    lines = done.stderr.splitlines()
    assert lines[0] == "ValueError: mine"
    assert lines[1] == "not handled: subscribed without on_error at"
    assert len(lines) == 5


def test_unhandled_error_during_subscribe_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[BaseException] = []
    start = threading.Thread.start

    def start_and_wait(self: threading.Thread) -> None:
        start(self)
        self.join(BOUND)

    def fail(_: object) -> None:
        raise ZeroDivisionError

    async def one() -> AsyncIterator[int]:
        yield 1

    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    monkeypatch.setattr(threading.Thread, "start", start_and_wait)
    from_async_iterable(one).map(fail).subscribe()
    assert [type(error) for error in seen] == [ZeroDivisionError]
