"""Every subscription ends exactly once, whatever raises in it, at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest
import reactivex
from faces import BOUND, FACES, Face, by_subscribing, eventually
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, Subject
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import NewThreadScheduler, ThreadPoolScheduler

from rxmistral import (
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    DeltaMessage,
    Mistral,
    Stream,
    UserMessage,
    coalesced,
    code_blocks,
    completions,
    deltas,
    fallback,
    finish_reason,
    guarded,
    hedge,
    items,
    on_outcome,
    paced,
    paragraphs,
    parsed,
    partials,
    parts,
    sentences,
    shared,
    snapshots,
    text,
    text_lines,
    think_tags,
    thinking,
    to_response,
    tool_calls,
    until_finished,
    usage,
    words,
)
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire import events, lines
from rxmistral.wire.reader import READERS

Operator = Callable[[Observable[Any]], Observable[Any]]


class Injected(Exception):  # noqa: N818  # it is injected
    """The exception that the tests raise within a pipe."""


def completion(content: str, finish: str | None = None) -> CompletionEvent:
    choice = CompletionResponseStreamChoice(
        index=0, delta=DeltaMessage(content=content), finish_reason=finish
    )
    return CompletionEvent(data=CompletionChunk(choices=[choice]))


PIECES = ["One two. ", "Three\n\n", "```\ncode\n", "```\nFour <think>five", "</think>", " [1, 2]"]
ANSWER = [*map(completion, PIECES), completion("", "stop")]


def answer() -> Stream[CompletionEvent]:
    """Emits on a new thread; like a reader, it passes an exception of a callback to on_error."""

    def subscribe(observer: Any, _: object = None) -> Disposable:
        disposed = threading.Event()

        def emit() -> None:
            try:
                for event in ANSWER:
                    if disposed.is_set():
                        return
                    observer.on_next(event)
            except Exception as error:
                observer.on_error(error)
            else:
                observer.on_completed()

        threading.Thread(target=emit, name="rxmistral-test-source", daemon=True).start()
        return Disposable(disposed.set)

    return Stream(subscribe)


def raising_at(number: int | None, error: Exception) -> Operator:
    """An operator of a user, without error handling: raises at an item, or at the end if None."""

    def operate(source: Observable[Any]) -> Observable[Any]:
        def subscribe(observer: Any, scheduler: Any = None) -> Any:
            count = 0

            def on_next(item: Any) -> None:
                nonlocal count
                if count == number:
                    raise error
                count += 1
                observer.on_next(item)

            def on_completed() -> None:
                if number is None:
                    raise error
                observer.on_completed()

            return source.subscribe(on_next, observer.on_error, on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operate


def mapper_raising_at(number: int | None, error: Exception) -> Operator:
    """Raises in a function called by reactivex, at an item, or at the end if None."""
    if number is None:
        return lambda source: source.pipe(ops.do_action(on_completed=_raiser(error)))

    def check(item: Any, at: int) -> Any:
        if at == number:
            raise error
        return item

    return ops.map_indexed(check)


def _raiser(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


OF_COMPLETIONS: dict[str, Callable[[], Operator]] = {
    "until_finished": until_finished,
    "on_outcome": lambda: on_outcome(lambda _: None),
    "fallback": lambda: lambda source: fallback(source, source),
    "hedge": lambda: lambda source: hedge(source, source, delay=60),
    "shared": shared,
    "identity": lambda: ops.map(lambda item: item),
    "to_list": lambda: lambda source: source.pipe(ops.to_list(), ops.flat_map(reactivex.of)),
}
OF_TEXT: dict[str, Callable[[], Operator]] = {
    "words": words,
    "text_lines": text_lines,
    "paragraphs": paragraphs,
    "sentences": sentences,
    "sentences, in time": lambda: sentences(max_wait=0.001),
    "guarded": lambda: guarded("xyz", max_length=3),
    "paced": lambda: paced(0.001),
    "coalesced": lambda: coalesced(0.001),
    "shared": shared,
    "take_last": lambda: ops.take_last(3),
    "buffered": lambda: (
        lambda source: source.pipe(
            ops.buffer_with_count(2), ops.map(lambda pair: "".join(map(str, pair)))
        )
    ),
    "reduced": lambda: ops.reduce(lambda one, other: one + other, ""),
    "listed": lambda: lambda source: source.pipe(ops.to_list(), ops.map("".join)),
}
TO_OTHER: dict[str, Callable[[], Operator]] = {
    "nothing": lambda: ops.map(lambda item: item),
    "code_blocks": code_blocks,
    "think_tags": think_tags,
    "parsed": lambda: parsed(list[int]),
    "partials": lambda: partials(list[int]),
    "items": lambda: items(int),
}
FROM_COMPLETIONS: dict[str, Callable[[], Operator]] = {
    "deltas": deltas,
    "thinking": thinking,
    "tool_calls": tool_calls,
    "usage": usage,
    "finish_reason": finish_reason,
    "parts": parts,
    "snapshots": snapshots,
    "to_response": to_response,
}

first_part = st.lists(st.sampled_from(sorted(OF_COMPLETIONS)), max_size=2)
second_part = st.one_of(
    st.tuples(
        st.lists(st.sampled_from(sorted(OF_TEXT)), max_size=3), st.sampled_from(sorted(TO_OTHER))
    ),
    st.sampled_from(sorted(FROM_COMPLETIONS)),
)


def pipe_of(first: list[str], second: Any) -> list[Operator]:
    operators = [OF_COMPLETIONS[name]() for name in first]
    if isinstance(second, str):
        return [*operators, FROM_COMPLETIONS[second]()]
    texts, last = second
    return [*operators, text(), *(OF_TEXT[name]() for name in texts), TO_OTHER[last]()]


@given(
    first=first_part,
    second=second_part,
    place=st.integers(0, 8),
    number=st.one_of(st.none(), st.integers(0, 4)),
    inject=st.sampled_from([raising_at, mapper_raising_at]),
    face=st.sampled_from(sorted(FACES)),
)
def test_exception_in_any_pipe_is_its_only_terminal(
    first: list[str], second: Any, place: int, number: int | None, inject: Any, face: str
) -> None:
    error = Injected()
    operators = pipe_of(first, second)
    operators.insert(min(place, len(operators)), inject(number, error))
    received = FACES[face](answer().pipe(*operators))
    ends = [each for each in received if isinstance(each, Exception)]
    assert len(ends) <= 1
    # The end of the source passes every operator, but after a finish_reason no error counts.
    if number is None and inject is raising_at and "until_finished" not in first:
        assert ends


@given(first=first_part, second=second_part, number=st.integers(0, 4))
def test_exception_of_a_callback_is_the_only_terminal(
    first: list[str], second: Any, number: int
) -> None:
    error = Injected()
    received: list[Any] = []
    ends: list[Any] = []

    def on_item(item: Any) -> None:
        received.append(item)
        if len(received) == number + 1:
            raise error

    source = answer().pipe(*pipe_of(first, second))
    source.subscribe(on_item, ends.append, lambda: ends.append(None))
    assert eventually(lambda: bool(ends), BOUND)
    if len(received) > number:
        assert ends == [error]
    else:
        assert len(ends) == 1


# --- each operator's last flush ---

HOLDING: dict[str, Callable[[], list[Operator]]] = {
    "sentences": lambda: [text(), sentences()],
    "words": lambda: [text(), words()],
    "text_lines": lambda: [text(), text_lines()],
    "paragraphs": lambda: [text(), paragraphs()],
    "guarded": lambda: [text(), guarded("3]x", max_length=3)],
    "think_tags": lambda: [text(), think_tags("[", "]")],
    "coalesced": lambda: [text(), coalesced(60)],
    "paced": lambda: [text(), paced(60)],
    "parsed": lambda: [text(), parsed(list[int])],
    "to_response": lambda: [to_response()],
    "to_list": lambda: [text(), ops.to_list()],
    "to_list, twice": lambda: [text(), ops.to_list(), ops.to_list()],
    "buffer_with_count": lambda: [text(), ops.buffer_with_count(100)],
    "take_last": lambda: [text(), ops.take_last(1)],
    "reduce": lambda: [text(), ops.reduce(lambda one, other: one + other)],
    "last": lambda: [text(), ops.last()],
}
JSON = ["[1, 2", ", 3]"]


@pytest.mark.parametrize("reader", READERS, indirect=True)
@pytest.mark.parametrize("name", HOLDING)
def test_exception_at_the_last_flush_is_the_error_on_every_face(
    name: str, read: Face, reader: str
) -> None:
    error = Injected()

    def fail_at_end(item: Any) -> Any:
        if "3" in str(item):
            raise error
        return item

    with (
        ScriptedServer([*JSON, steps.finish("stop"), steps.done()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        stream = client.chat.stream(model="any", messages=[UserMessage(content="Hi")])
        received = read(stream.pipe(*HOLDING[name](), user_operator(fail_at_end)))
    assert received[-1:] == [error]


def user_operator(check: Callable[[Any], Any]) -> Operator:
    """Returns an operator without error handling."""

    def operate(source: Observable[Any]) -> Observable[Any]:
        def subscribe(observer: Any, scheduler: Any = None) -> Any:
            return source.subscribe(
                lambda item: observer.on_next(check(item)),
                observer.on_error,
                observer.on_completed,
                scheduler=scheduler,
            )

        return Observable(subscribe)

    return operate


@pytest.mark.parametrize("name", HOLDING)
def test_callback_that_raises_at_the_flush_receives_on_error(name: str) -> None:
    ends: list[Any] = []
    error = Injected()

    def on_item(item: Any) -> None:
        if "3" in str(item):
            raise error

    with (
        ScriptedServer([*JSON, steps.finish("stop"), steps.done()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        stream = client.chat.stream(model="any", messages=[UserMessage(content="Hi")])
        piped = stream.pipe(*HOLDING[name]())
        piped.subscribe(on_item, ends.append, lambda: ends.append(None))
        assert eventually(lambda: bool(ends))
    assert ends == [error]


@pytest.mark.parametrize("reader", READERS, indirect=True)
@pytest.mark.parametrize("number", range(4))
def test_callback_that_raises_receives_on_error_after_any_end(number: int, reader: str) -> None:
    """Also after the finish_reason, when an error of the connection does not count."""
    ends: list[Any] = []
    received: list[Any] = []
    error = Injected()

    def on_item(item: Any) -> None:
        received.append(item)
        if len(received) == number + 1:
            raise error

    script = [*JSON, steps.finish("stop"), steps.usage(1, 2), steps.done()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="any", messages=[UserMessage(content="Hi")])
        stream.subscribe(on_item, ends.append, lambda: ends.append(None))
        assert eventually(lambda: bool(ends))
    assert ends == [error]


def test_flush_that_raises_reaches_on_error_of_any_source() -> None:
    source: Subject[str] = Subject()
    ends: list[Any] = []
    error = Injected()
    source.pipe(sentences()).subscribe(_raiser(error), ends.append, lambda: ends.append(None))
    source.on_next("No end")
    source.on_completed()
    assert ends == [error]


@pytest.mark.parametrize(
    "later",
    [
        lambda: ops.delay(0.01),
        lambda: ops.observe_on(NewThreadScheduler()),
        lambda: ops.observe_on(ThreadPoolScheduler(1)),
        lambda: ops.sample(0.01),
    ],
    ids=["delay", "observe_on a thread", "observe_on a pool", "sample"],
)
def test_callback_called_by_a_scheduler_receives_on_error(
    later: Callable[[], Operator],
) -> None:
    def raise_injected(_: object) -> None:
        raise error

    error = Injected()
    ends: SimpleQueue[Any] = SimpleQueue()
    source = answer().pipe(text(), later(), ops.start_with("first"), ops.skip(1), words())
    source.subscribe(raise_injected, ends.put, lambda: ends.put(None))
    assert ends.get(timeout=BOUND) is error
    assert ends.empty()


@pytest.mark.parametrize("number", [0, 2])
def test_callback_that_raises_after_replay_receives_on_error(number: int, reader: str) -> None:
    def on_item(item: object) -> None:
        received.append(item)
        if len(received) > number:
            raise error

    error = Injected()
    received: list[object] = []
    ends: SimpleQueue[Any] = SimpleQueue()
    script = [steps.role(), "a", "b", "c", steps.finish(), steps.done()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        replayed = answer.pipe(text(), ops.replay(), ops.ref_count())
        replayed.subscribe(on_item, ends.put, lambda: ends.put(None))
        assert ends.get(timeout=BOUND) is error
    assert len(received) == number + 1


@pytest.mark.parametrize("after", [[ops.start_with("first")], [ops.concat(reactivex.empty())]])
def test_cleanup_that_raises_at_the_end_blocks_no_loop(after: list[Operator], read: Face) -> None:
    def raise_injected() -> None:
        raise error

    error = Injected()
    source = answer().pipe(
        text(), ops.start_with("more"), ops.finally_action(raise_injected), *after
    )
    assert "more" in read(source)


def test_exception_of_on_completed_is_raised_on_the_emitter() -> None:
    source: Subject[str] = Subject()
    ends: list[Any] = []
    source.pipe(words(), sentences()).subscribe(None, ends.append, _raiser(Injected()))
    with pytest.raises(Injected):
        source.on_completed()
    assert ends == []


# --- input types of operators ---

WRONG: dict[str, tuple[Callable[[], list[Operator]], str]] = {
    **{
        f"{name} of completions": (
            lambda make=make: [make()],
            f"{name}() takes text, got a CompletionEvent: put text() before it",
        )
        for name, make in {
            "sentences": sentences,
            "words": words,
            "text_lines": text_lines,
            "paragraphs": paragraphs,
            "code_blocks": code_blocks,
            "think_tags": think_tags,
            "guarded": OF_TEXT["guarded"],
            "paced": lambda: paced(60),
            "coalesced": lambda: coalesced(60),
            "parsed": lambda: parsed(int),
            "partials": lambda: partials(int),
            "items": lambda: items(int),
        }.items()
    },
    **{
        f"{name} of text": (
            lambda make=make: [text(), make()],
            f"{name}() takes completions, got a str: put it before text()",
        )
        for name, make in {
            **FROM_COMPLETIONS,
            "until_finished": until_finished,
            "on_outcome": OF_COMPLETIONS["on_outcome"],
            "fallback": OF_COMPLETIONS["fallback"],
            "hedge": OF_COMPLETIONS["hedge"],
        }.items()
    },
    "text of text": (
        lambda: [text(), text()],
        "text() takes completions, got a str: leave the second text() out",
    ),
    "text of text of sentences": (
        lambda: [text(), sentences(), text()],
        "text() takes completions, got a str: leave the second text() out",
    ),
    "words of deltas": (
        lambda: [deltas(), words()],
        "words() takes text, got a DeltaMessage: put text() before it, in place of deltas()",
    ),
    "words of parts": (
        lambda: [parts(), words()],
        "words() takes text, got a TextDelta: put text() before it, in place of parts()",
    ),
    "deltas of parts": (
        lambda: [parts(), deltas()],
        "deltas() takes completions, got a TextDelta: put it before parts()",
    ),
    "completions of completions": (
        lambda: [completions()],
        "completions() takes events, got a CompletionEvent: "
        "chat.stream() has decoded them already, leave completions() out",
    ),
    "lines of text": (lambda: [text(), lines()], "lines() takes blocks of bytes, got a str"),
    "events of text": (lambda: [text(), events()], "events() takes raw lines, got a str"),
}


@pytest.mark.parametrize("reader", READERS, indirect=True)
@pytest.mark.parametrize("name", WRONG)
def test_item_of_wrong_type_is_named_on_every_face(name: str, read: Face, reader: str) -> None:
    make, message = WRONG[name]
    with (
        ScriptedServer(lambda _: ["One. Two.", steps.finish("stop"), steps.done()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        stream = client.chat.stream(model="any", messages=[UserMessage(content="Hi")])
        *_, error = read(stream.pipe(*make()))
    assert (type(error), str(error)) == (TypeError, message)


@pytest.mark.parametrize("name", [name for name in WRONG if name.endswith("of completions")])
def test_item_of_wrong_type_is_the_error_of_a_synchronous_source(name: str) -> None:
    make, message = WRONG[name]
    *_, error = by_subscribing(Stream.of(reactivex.of(*ANSWER)).pipe(*make()))
    assert (type(error), str(error)) == (TypeError, message)


@pytest.mark.parametrize("factory", [text, words, sentences, parsed, shared, lines, completions])
def test_operator_that_was_not_called_is_named(factory: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{factory.__name__} makes an operator and has to be"):
        answer().pipe(factory)
