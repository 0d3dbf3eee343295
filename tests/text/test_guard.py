"""A guard emits `re.sub` of the whole text, and no part of a match."""

from __future__ import annotations

import pickle
import re
from functools import partial
from typing import Any

import pytest
import reactivex
from cuts import cut, every_way
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable, Subject
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral.errors import GuardError, MistralError
from rxmistral.text.guard import Guard, guarded

on_next, on_completed = ReactiveTest.on_next, ReactiveTest.on_completed

TEXTS = st.text("ab1 @.\n", max_size=24)
LONG = 24  # no match in a text of these can be longer

PATTERNS = [
    "a", "ab", "a|ab", "ab|a", "a?b", "ab?", "a+", "a+?", "a{2,3}", "a{2,3}?b", "(?:ab)+", "(a|b1)+",
    r"\d+", r"\d{3}", r"\w+@\w+(?:\.\w+)+", "a.b", "a.*b", "a.*?b", "(?s:a.b)", "[^ab]", "[]@]", "(?i)AB",
    r"\b1+\b", r"\Ba", r"\ba\b|b", r"a$", r"(?m)a$", r"(?m)^a", "^a", r"\Aa", r"a\Z", r"(?m)^a.*$",
    "a(?=b)", "a(?!b)", "a(?= |$)", r"a(?!\w)", "(?<=a)b", "(?<!a)b", r"(?<!\d)1{1,2}(?!\d)", r"1(?=\d\b)",
    r"(?<=a\b) .", r"a(?<=a)b", r"(?=a)\w+", "(?P<name>a)b", "(?x) a b  # b\n | 1 [ ]", "a(?#no)b", r"\x61\.", "a{b|a{}|1",
]  # fmt: skip


def feed(guard: Guard, pieces: list[str]) -> list[str]:
    """The text that is released with each piece, and at the end."""
    steps = [*(partial(guard.feed, piece) for piece in pieces), guard.close]
    return ["".join(step()) for step in steps if guard.error is None]


def match_position(guard: Guard) -> int | None:
    return guard.error.position if isinstance(guard.error, GuardError) else None


@pytest.mark.parametrize("pattern", PATTERNS)
@given(pieces=cut(TEXTS))
def test_redacted_text_equals_sub_of_whole_text(pattern: str, pieces: list[str]) -> None:
    whole = re.sub(pattern, "#", "".join(pieces))
    assert "".join(feed(Guard(re.compile(pattern), LONG, "#"), pieces)) == whole


@pytest.mark.parametrize("pattern", PATTERNS)
@given(pieces=cut(TEXTS))
def test_stopped_text_ends_before_the_first_match(pattern: str, pieces: list[str]) -> None:
    text = "".join(pieces)
    match = re.search(pattern, text)
    guard = Guard(re.compile(pattern), LONG, None)
    assert "".join(feed(guard, pieces)) == (text[: match.start()] if match else text)
    assert match_position(guard) == (match and match.start())


@settings(max_examples=30)
@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=TEXTS)
def test_held_text_could_still_become_a_match(pattern: str, text: str) -> None:
    """A pattern that looks around its match holds one character more."""
    guard = Guard(re.compile(pattern), LONG, None)
    guard.feed(text)
    if guard.error is None and not re.search(r"\\[bBAZ]|[$^]|\(\?<?[=!]", pattern):
        held = text[len(text) - guard.buffered :]
        assert not held or could_begin(pattern, held)


def could_begin(pattern: str, held: str) -> bool:
    """Whether some following text makes a match that reaches the end of `held`."""
    ends = ["", *(a + b + c for a in ENDS for b in ENDS for c in ENDS)]
    matches = [re.match(pattern, held + end) for end in ends]
    return any(match and match.end() >= len(held) for match in matches)


ENDS = ["", "a", "{b", "b", "1", " ", "@1", ".1"]

# With the length of their longest match.
SHORT = [
    ("a{1,3}", 3), (r"\b1{2,3}\b", 3), (r"a\w?b|b(?=a)", 3), (r"(?<!a)b{2}", 2), ("a.b", 3), ("(?m)^..$", 2),
    ("..$", 2), ("(?:a|1b){1,2}", 4), (r"a(?!b)", 1), (r"1(?=ab)", 1), (r"a\Z|b", 1),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "length"), SHORT)
@given(pieces=cut(TEXTS))
def test_the_length_of_the_longest_match_is_enough(
    pattern: str, length: int, pieces: list[str]
) -> None:
    guard = Guard(re.compile(pattern), length, "#")
    assert "".join(feed(guard, pieces)) == re.sub(pattern, "#", "".join(pieces))


@settings(max_examples=30)
@pytest.mark.parametrize("pattern", PATTERNS)
@given(pieces=cut(TEXTS))
def test_cuts_do_not_matter_when_a_match_is_too_long(pattern: str, pieces: list[str]) -> None:
    length = 9 if "@" in pattern else 4
    one, other = (Guard(re.compile(pattern), length, "#") for _ in range(2))
    assert "".join(feed(one, pieces)) == "".join(feed(other, ["".join(pieces)]))


@settings(max_examples=30)
@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=TEXTS)
def test_held_text_is_no_longer_than_the_window(pattern: str, text: str) -> None:
    length = 9 if "@" in pattern else 4
    guard = Guard(re.compile(pattern), length, "#")
    for character in text:
        guard.feed(character)
        assert guard.buffered < length + 2 or (guard.buffered == length + 2 and "$" in pattern)


@pytest.mark.parametrize(
    ("pattern", "pieces", "released"),
    [
        (r"\d{4}", ["12", "34", "5"], ["", "#", "", "5"]),
        (r"\d+", ["a1", "2", "b"], ["a", "", "#b", ""]),
        (r"\bfoo\b", ["a f", "oo", "d foo", "."], ["a ", "", "food ", "#.", ""]),
        (r"secret", ["the sec", "ond sec", "ret!"], ["the ", "second ", "#!", ""]),
        (r"ab?", ["a", "b", "a"], ["", "#", "", "#"]),
        (r"ab??", ["a", "b"], ["#", "b", ""]),
        (r"a(?!b)", ["a", "b", "a", "c"], ["", "ab", "", "#c", ""]),
        (r"a$", ["a", "\n", "a"], ["", "", "a\n", "#"]),
        (r"a|abc", ["a", "bc"], ["#", "bc", ""]),
        (r"abc|a", ["ab", "d", "ab"], ["", "#bd", "", "#b"]),
    ],
)
def test_text_is_released_as_soon_as_it_is_certain(
    pattern: str, pieces: list[str], released: list[str]
) -> None:
    assert feed(Guard(re.compile(pattern), 8, "#"), pieces) == released


def test_longer_match_is_redacted_in_parts() -> None:
    for pieces in every_way("a123456b"):
        assert "".join(feed(Guard(re.compile(r"\d+"), 4, "#"), pieces)) == "a##b"


def test_stopped_guard_releases_nothing() -> None:
    guard = Guard(re.compile("a"), 1, None)
    assert [guard.feed("xab"), guard.feed("c"), guard.close()] == [["x"], [], []]
    assert match_position(guard) == 1


def test_large_piece_needs_no_large_window() -> None:
    guard = Guard(re.compile(r"\d+x"), 8, "#")
    assert len(guard.feed("1" * 100_000)[0]) > 99_980
    assert guard.feed("x") + guard.close() == ["#"]


# --- the operator ----------------------------------------------------------------


def through(operator: Any, *pieces: str) -> list[Any]:
    got: list[Any] = []
    reactivex.of(*pieces).pipe(operator).subscribe(got.append, got.append, lambda: got.append("|"))
    return got


def test_replacement_is_literal() -> None:
    operator = guarded("(a)", max_length=1, replacement=r"<\1\g<0>>")
    assert through(operator, "ba") == [r"b<\1\g<0>>", "|"]


def test_default_replacement() -> None:
    assert through(guarded("a", max_length=1), "ba") == ["b...", "|"]


def test_empty_replacement_emits_no_empty_item() -> None:
    assert through(guarded("a", max_length=1, replacement=""), "a", "b") == ["b", "|"]


def test_compiled_pattern_keeps_its_flags() -> None:
    assert through(guarded(re.compile("a # b", re.I | re.X), max_length=1), "A") == ["...", "|"]


def stopped(source: Observable[str], scheduler: TestScheduler) -> list[Any]:
    return scheduler.start(
        lambda: source.pipe(guarded("ab", max_length=2, on_match="stop"))
    ).messages


def test_match_stops_and_cancels_the_source() -> None:
    scheduler = TestScheduler()
    source = scheduler.create_cold_observable(
        on_next(10, "xya"), on_next(20, "bc"), on_next(30, "d"), on_completed(40)
    )
    *before, stop = stopped(source, scheduler)
    assert before == [on_next(210, "xy")]
    assert (stop.time, stop.value.exception.position) == (220, 2)
    assert source.subscriptions == [Subscription(200, 220)]


def test_text_before_the_match_precedes_the_error() -> None:
    scheduler = TestScheduler()
    source = scheduler.create_cold_observable(on_next(10, "xyab"))
    *before, stop = stopped(source, scheduler)
    assert before == [on_next(210, "xy")]
    assert (stop.time, stop.value.exception.position) == (210, 2)


def test_match_at_the_end_of_text_stops() -> None:
    got = through(guarded("a+", max_length=3, on_match="stop"), "xaa")
    assert got[:-1] == ["x"]
    assert isinstance(got[-1], GuardError)


def test_source_is_cancelled_before_the_error() -> None:
    """A retry never holds two connections."""
    events: list[str] = []
    source: Subject[str] = Subject()
    left: Observable[str] = source.pipe(reactivex.operators.finally_action(lambda: events.append("left")))  # fmt: skip
    left.pipe(guarded("a", max_length=1, on_match="stop")).subscribe(
        on_error=lambda _: events.append("error")
    )
    source.on_next("a")
    assert events == ["left", "error"]


def test_endless_synchronous_source_is_cancelled() -> None:
    def forever() -> Any:
        for number in range(1_000_000):
            assert number < 10, "it goes on"
            yield str(number)

    got: list[Any] = []
    reactivex.from_iterable(forever()).pipe(guarded("3", max_length=1, on_match="stop")).subscribe(
        got.append, got.append
    )
    assert got[:-1] == ["0", "1", "2"]


def test_possible_match_is_dropped_when_source_fails() -> None:
    source: Subject[str] = Subject()
    got: list[Any] = []
    source.pipe(guarded("secret", max_length=6)).subscribe(got.append, got.append)
    source.on_next("the secre")
    error = RuntimeError("broken")
    source.on_error(error)
    assert got == ["the ", error]


def test_guard_error_does_not_contain_the_match() -> None:
    *_, error = through(guarded("secret|key", max_length=6, on_match="stop"), "the secret")
    assert isinstance(error, MistralError)
    assert str(error) == "the text was stopped before a match at character 4"
    for shown in (str(error), repr(error), repr(vars(error)), repr(error.__cause__)):
        assert "secret" not in shown
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.position) == (str(error), 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"pattern": 1}, TypeError, "pattern must be a str or a pattern of one, got int"),
        ({"pattern": b"a"}, TypeError, "pattern must be a str or a pattern of one, got bytes"),
        ({"pattern": re.compile(b"a")}, TypeError, "pattern must be a str or a pattern of one"),
        ({"pattern": "("}, ValueError, "pattern is not a regular expression: missing \\)"),
        ({"pattern": ""}, ValueError, "pattern matches the empty text"),
        ({"pattern": "a*"}, ValueError, "pattern matches the empty text"),
        ({"pattern": r"\b"}, ValueError, "pattern matches the empty text"),
        ({"pattern": "a|(?=b)"}, ValueError, "pattern matches the empty text"),
        ({"pattern": "a{5}"}, ValueError, "shortest match .* has 5 characters, and max_length is 4"),
        ({"pattern": r"(a)\1"}, ValueError, r"a reference to a group in it, '\\\\1'"),
        ({"max_length": 0}, ValueError, "max_length must be 1 or more, got 0"),
        ({"max_length": True}, TypeError, "max_length must be an int, got bool"),
        ({"max_length": 4.0}, TypeError, "max_length must be an int, got float"),
        ({"on_match": "drop"}, ValueError, 'on_match must be "redact" or "stop", got \'drop\''),
        ({"replacement": None}, TypeError, "replacement must be a str, got NoneType"),
    ],
)  # fmt: skip
def test_invalid_argument_raises_at_the_call(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        guarded(**({"pattern": "a", "max_length": 4} | arguments))
