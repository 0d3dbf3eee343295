"""JSON text into whole values, growing values, and items of an array."""

from __future__ import annotations

import enum
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate, pairwise
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
)

import msgspec
import pytest
import reactivex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct
from reactivex import Observable, Subject
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral.chat.request import encode_body
from rxmistral.errors import InvalidAnswerError
from rxmistral.models import FunctionCall
from rxmistral.rx.stream import Stream
from rxmistral.text.structured.operators import items, parsed, partials

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)

T = TypeVar("T")


class Unit(enum.Enum):
    GRAM = "g"
    LITRE = "l"


class Ingredient(Struct):
    name: str
    amount: float
    unit: Unit | None = None


class Recipe(Struct):
    name: str
    minutes: int
    vegan: bool
    course: Literal["main", "dessert"]
    ingredients: list[Ingredient]
    steps: list[str]
    notes: dict[str, str] = {}
    servings: int = 4
    source: str | None = None


class Address(Struct, frozen=True, kw_only=True, rename="camel", tag="address", gc=False):
    first_line: str
    zip_code: str = ""


class Person(Struct, frozen=True, kw_only=True, rename="camel", tag=True, omit_defaults=True):
    full_name: str
    born_on: date
    lives_at: Address | None = None
    known_as: list[str] = msgspec.field(default_factory=list, name="aka")


class Circle(Struct, tag="circle", tag_field="kind"):
    label: str
    radius: float


class Square(Struct, tag="square", tag_field="kind"):
    label: str
    side: float


class Drawing(Struct):
    shapes: list[Circle | Square]
    cover: Circle | Square | None


class Tree(Struct):
    label: str
    children: list[Tree] = []


class Checked(Struct):
    """A Struct whose `__post_init__` accepts whole values only."""

    low: int
    high: int
    word: str

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")
        self.word = self.word.upper()


class Holder(Struct):
    checked: Checked
    after: str


class Box(Struct, Generic[T]):
    content: T
    more: list[T] = []


class Pair(Struct, array_like=True):
    left: str
    right: str


class Point(NamedTuple):
    x: int
    y: int


class Movie(TypedDict, total=False):
    title: str
    year: int


class Sequel(Movie):
    first: Required[Movie]
    tagline: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Song:
    title: str
    seconds: int
    tags: list[str] = field(default_factory=list)
    rating: int = 3


# --- feeding ---------------------------------------------------------------------


def through(operator: Callable[[Observable[str]], Stream[Any]], deltas: Iterable[str]) -> list[Any]:
    """The emitted items, and the error last."""
    got: list[Any] = []
    reactivex.from_iterable(deltas).pipe(operator).subscribe(got.append, got.append)
    return got


def emitted_by(type: Any, *deltas: str, growing_items: bool = False) -> list[list[Any]]:
    """The items that `partials` emits for each delta, and for the end."""
    source: Subject[str] = Subject()
    got: list[Any] = []
    source.pipe(partials(type, growing_items=growing_items)).subscribe(got.append, got.append)
    emitted = []
    for action in (*(lambda delta=delta: source.on_next(delta) for delta in deltas),
                   source.on_completed):  # fmt: skip
        action()
        emitted.append(got[:])
        got.clear()
    return emitted


def in_pieces(text: str, cuts: Iterable[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[begin:end] for begin, end in pairwise(places)]


# --- when things appear ----------------------------------------------------------


def test_strings_grow_and_other_values_appear_when_whole() -> None:
    assert emitted_by(
        Ingredient, "{", '"na', 'me": "fl', "our", '", "amount": 1', "2", '.5, "unit', '": "g', '"}'
    ) == [
        [Ingredient(UNSET, UNSET)],
        [],
        [Ingredient("fl", UNSET)],
        [Ingredient("flour", UNSET)],
        [],
        [],
        [Ingredient("flour", 12.5)],
        [],
        [Ingredient("flour", 12.5, Unit.GRAM)],
        [],
    ]


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        (int, "12", 12),
        (float, "-1.5e3", -1500.0),
        (bool, "true", True),
        (type(None), "null", None),
        (int | None, "null", None),
        (Unit, '"g"', Unit.GRAM),
        (Literal["a", "bc"], '"bc"', "bc"),
        (date, '"2026-01-02"', date(2026, 1, 2)),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (set[int], "[1, 2]", {1, 2}),
        (Point, "[1, 2]", Point(1, 2)),
        (Pair, '["a", "b"]', Pair("a", "b")),
        (dict[int, str], '{"1": "a"}', {1: "a"}),
        (Any, "1", 1),
    ],
)
def test_atomic_value_is_emitted_once(type: Any, text: str, value: Any) -> None:
    assert through(partials(type), list(text)) == [value]
    (field,) = msgspec.structs.fields(msgspec.defstruct("Whole", [("field", type)]))
    holder = msgspec.defstruct("Whole", [(field.name, field.type)])
    got = through(partials(holder), list(f'{{"field": {text}}}'))
    assert got == [holder(UNSET), holder(value)]


def test_number_is_whole_when_text_follows_it() -> None:
    assert emitted_by(list[int], "[1", "2", " ", ", 3", "]") == [
        [[]],
        [],
        [[12]],
        [],
        [[12, 3]],
        [],
    ]


def test_number_alone_is_whole_at_the_end() -> None:
    assert emitted_by(int, "1", "2") == [[], [], [12]]


def test_list_items_appear_when_they_close() -> None:
    assert emitted_by(list[Ingredient], '[{"name": "a", "amount"', ": 1", "}, ", '{"name": "b"') == [
        [[]],
        [],
        [[Ingredient("a", 1.0)]],
        [],
        [ANY_ERROR],
    ]  # fmt: skip


def test_list_items_grow_with_growing_items() -> None:
    assert emitted_by(
        list[Ingredient], '[{"name": "a', 'b", "amount": 1', "}, {", "]", growing_items=True
    )[:3] == [
        [[Ingredient("a", UNSET)]],
        [[Ingredient("ab", UNSET)]],
        [[Ingredient("ab", 1.0), Ingredient(UNSET, UNSET)]],
    ]
    assert emitted_by(list[str], '["a', 'b"', ', "c', '"]', growing_items=True) == [
        [["a"]],
        [["ab"]],
        [["ab", "c"]],
        [],
        [],
    ]


def test_nested_objects_and_dicts_grow() -> None:
    assert emitted_by(dict[str, Box[str]], '{"a": {"content": "x', 'y", "more": ["', 'z"', "]}}") == [
        [{"a": Box("x")}],
        [{"a": Box("xy")}],
        [{"a": Box("xy", ["z"])}],
        [],
        [],
    ]  # fmt: skip


def test_escape_appears_when_it_is_whole() -> None:
    text = '"a\\n\\u00e9\\ud83d\\ude00\\\\\\""'
    assert through(partials(str), list(text)) == list(
        accumulate(["", "a", "\n", "é", "😀", "\\", '"'])
    )


def test_missing_field_is_its_default_or_unset() -> None:
    (first, *_), *_ = emitted_by(Recipe, "{")
    assert first == Recipe(UNSET, UNSET, UNSET, UNSET, UNSET, UNSET)
    assert (first.name, first.servings, first.notes, first.source) == (UNSET, 4, {}, None)


def test_value_equal_to_the_default_is_not_a_change() -> None:
    assert emitted_by(Box[int], '{"content": 1,', '"more": [', "]", "}") == [
        [Box(1)],
        [],
        [],
        [],
        [],
    ]


def test_unknown_keys_are_skipped_with_their_values() -> None:
    text = '{"x": {"name": ["}", "\\"", {}]}, "name": "a", "y": "b", "z": [1, 2], "amount": 1}'
    assert through(partials(Ingredient), list(text)) == [
        Ingredient(UNSET, UNSET),
        Ingredient("", UNSET),
        Ingredient("a", UNSET),
        Ingredient("a", 1.0),
    ]


def test_keys_may_be_escaped_and_empty() -> None:
    text = '{"n\\u0061me": "a", "": 1}'
    assert through(partials(Ingredient), list(text))[-2] == Ingredient("a", UNSET)
    assert through(partials(dict[str, Any]), list(text))[-1] == {"name": "a", "": 1}


def test_partials_are_instances_of_the_class_itself() -> None:
    text = '{"type": "Person", "fullName": "A B", "bornOn": "1990-01-02", "livesAt": {"type": "address", "firstLine": "x'
    person = emitted_by(Person, text)[0][-1]
    assert type(person) is Person
    assert type(person.lives_at) is Address
    assert person == Person(
        full_name="A B", born_on=date(1990, 1, 2), lives_at=Address(first_line="x")
    )
    assert json.loads(msgspec.json.encode(person))["livesAt"] == {
        "type": "address",
        "firstLine": "x",
        "zipCode": "",
    }


def test_post_init_is_not_called_for_a_part() -> None:
    """`__post_init__` is called for whole objects, also for nested ones."""
    text = '{"checked": {"low": 1, "high": 2, "word": "ab"}, "after": "x"}'
    got = through(partials(Holder), list(text))
    assert all(type(each.checked) is Checked for each in got[1:])
    words = [each.checked.word for each in got[1:]]
    assert words == [UNSET, UNSET, UNSET, "", "a", "ab", "AB", "AB", "AB"]
    assert got[-1] == msgspec.json.decode(text, type=Holder)
    *_, error = through(partials(Holder), [text.replace('"low": 1', '"low": 3')])
    assert "low is above high - at `$.checked`" in str(error)


def test_object_of_a_union_grows_after_its_tag() -> None:
    deltas = (
        '{"shapes": [], "cover": {"ki',
        'nd": "squ',
        'are", "lab',
        'el": "a',
        '", "side": 1}}',
    )
    assert [each[-1:] for each in emitted_by(Drawing, *deltas)] == [
        [Drawing([], UNSET)],
        [],
        [Drawing([], Square(UNSET, UNSET))],
        [Drawing([], Square("a", UNSET))],
        [Drawing([], Square("a", 1.0))],
        [],
    ]


def test_object_of_a_union_is_atomic_if_its_tag_is_late() -> None:
    for label in ("a", "square"):
        text = f'{{"label": "{label}", "kind": "circle", "radius": 2}}'
        assert through(partials(Circle | Square), list(text)) == [Circle(label, 2.0)]


def test_integers_may_be_tags() -> None:
    one = msgspec.defstruct("One", [("a", str)], tag=1)
    two = msgspec.defstruct("Two", [("b", str)], tag=22)
    got = through(partials(one | two), list('{"type": 22, "b": "x"}'))
    assert got == [two(UNSET), two(""), two("x")]


def test_dataclasses_and_typed_dicts_grow() -> None:
    assert [each[-1:] for each in emitted_by(Movie, '{"ti', 'tle": "M', '", "year": 1931}')] == [
        [{}],
        [{"title": "M"}],
        [{"title": "M", "year": 1931}],
        [],
    ]
    got = through(partials(Song), list('{"title": "S", "seconds": 9, "tags": ["a"]}'))
    assert {type(each) for each in got} == {Song}
    assert [(each.title, each.seconds, each.tags, each.rating) for each in got] == [
        (UNSET, UNSET, [], 3),
        ("", UNSET, [], 3),
        ("S", UNSET, [], 3),
        ("S", 9, [], 3),
        ("S", 9, ["a"], 3),
    ]


def test_required_keys_of_typed_dicts_grow() -> None:
    text = '{"title": "T", "first": {"title": "M"}, "tagline": "x"}'
    assert through(partials(Sequel), list(text)) == [
        {},
        {"title": ""},
        {"title": "T"},
        {"title": "T", "first": {}},
        {"title": "T", "first": {"title": ""}},
        {"title": "T", "first": {"title": "M"}},
        {"title": "T", "first": {"title": "M"}, "tagline": ""},
        {"title": "T", "first": {"title": "M"}, "tagline": "x"},
    ]


def test_typed_dict_of_typing_extensions_grows() -> None:
    typing_extensions = pytest.importorskip("typing_extensions")
    movie = typing_extensions.TypedDict("movie", {"title": str})
    assert through(partials(movie), ['{"title": "M', '1"}']) == [{"title": "M"}, {"title": "M1"}]


def test_aliases_annotations_and_any_grow_like_their_values() -> None:
    name = NewType("name", str)
    assert through(partials(Annotated[name, Meta(min_length=1)]), ['"a', 'b"']) == ["a", "ab"]
    assert through(partials(Any), ['{"a": ["x"', ', 1], "b": "y', '"}']) == [
        {"a": ["x"]},
        {"a": ["x", 1], "b": "y"},
    ]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is newer")
def test_type_statement_grows_without_type_arguments() -> None:
    names: dict[str, Any] = {}
    exec("type Words = list[str]; type Pairs[T] = list[tuple[T, T]]", names)
    assert through(partials(names["Words"]), list('["a"]')) == [[], ["a"]]
    assert through(partials(names["Pairs"][int]), list("[[1, 2]]")) == [[(1, 2)]]


def test_very_deep_value_is_atomic() -> None:
    text = '{"a":' * 40 + '"x"' + "}" * 40
    *_, before, last = through(partials(Any), list(text))
    assert last == msgspec.json.decode(text)
    assert str(before).count("a") == 31


def test_emitted_value_does_not_change() -> None:
    text = msgspec.json.encode(
        Recipe("n", 1, True, "main", [Ingredient("a", 1)] * 3, ["s", "t"], {"k": "v"})
    ).decode()
    source: Subject[str] = Subject()
    kept: list[tuple[Any, bytes]] = []
    source.pipe(partials(Recipe, growing_items=True)).subscribe(
        lambda value: kept.append((value, msgspec.json.encode(value)))
    )
    for char in text:
        source.on_next(char)
    assert all(msgspec.json.encode(value) == then for value, then in kept)
    assert len(kept) > 20


# --- any value, any cuts ---------------------------------------------------------

names = st.text(st.characters(codec="utf-8") | st.sampled_from('"\\\n😀`{}[],:'), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
ingredients = st.builds(Ingredient, names, numbers, st.none() | st.sampled_from(Unit))
recipes = st.builds(
    Recipe,
    names,
    st.integers(-(2**62), 2**62),
    st.booleans(),
    st.sampled_from(["main", "dessert"]),
    st.lists(ingredients, max_size=3),
    st.lists(names, max_size=3),
    notes=st.dictionaries(names, names, max_size=3),
    servings=st.integers(0, 9),
    source=st.none() | names,
)
addresses = st.builds(Address, first_line=names, zip_code=names)
persons = st.builds(
    Person,
    full_name=names,
    born_on=st.dates(),
    lives_at=st.none() | addresses,
    known_as=st.lists(names, max_size=2),
)
shapes = st.builds(Circle, names, numbers) | st.builds(Square, names, numbers)
drawings = st.builds(Drawing, st.lists(shapes, max_size=3), st.none() | shapes)
trees = st.recursive(
    st.builds(Tree, names), lambda inner: st.builds(Tree, names, st.lists(inner, max_size=3))
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    Recipe: recipes,
    Person: persons,
    Drawing: drawings,
    Tree: trees,
    list[Ingredient]: st.lists(ingredients, max_size=3),
    dict[str, list[str]]: st.dictionaries(names, st.lists(names, max_size=2), max_size=3),
    str: names,
    float: numbers,
}
typed_values = st.sampled_from(list(VALUES)).flatmap(
    lambda wanted: st.tuples(st.just(wanted), VALUES[wanted])
)
typed_lists = st.sampled_from(list(VALUES)).flatmap(
    lambda wanted: st.tuples(st.just(wanted), st.lists(VALUES[wanted], max_size=4))
)


def compact(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def escaped(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value))


def fenced(value: Any) -> str:
    return f"```json\n{pretty(value)}\n```"


def among_prose(value: Any) -> str:
    return f"Here it is: [1]\n\n~~~ json\n{compact(value)}\n~~~\nAnything else? {{}}"


writers = st.sampled_from([compact, pretty, escaped, fenced, among_prose])
cuts = st.lists(st.integers(0, 10_000), max_size=30) | st.just(range(10_000))
cases = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def grows_into(part: Any, whole: Any) -> bool:
    """Whether everything in the part is in the whole."""
    if part is UNSET:
        return True
    if isinstance(part, str) and isinstance(whole, str) and not isinstance(part, enum.Enum):
        return whole.startswith(part)
    if isinstance(part, list):
        return len(part) <= len(whole) and all(map(grows_into, part, whole))
    if isinstance(part, dict):
        return all(key in whole and grows_into(part[key], whole[key]) for key in part)
    if isinstance(part, Struct):
        return type(part) is type(whole) and all(
            grows_into(getattr(part, field.name), getattr(whole, field.name))
            or getattr(part, field.name) == default_of(field)
            for field in msgspec.structs.fields(part)
        )
    return type(part) is type(whole) and part == whole


def default_of(field: Any) -> Any:
    return [] if field.default_factory is list else {} if field.default_factory is dict else field.default  # fmt: skip


@cases
@given(typed_values, writers, cuts, st.booleans())
def test_partials_grow_into_the_whole(
    typed: tuple[Any, Any], write: Callable[[Any], str], cuts: Iterable[int], growing: bool
) -> None:
    wanted, value = typed
    got = through(partials(wanted, growing_items=growing), in_pieces(write(value), cuts))
    assert got[-1] == value == msgspec.json.decode(compact(value), type=wanted)
    for before, after in pairwise(got):
        assert grows_into(before, after)
        assert before != after


@cases
@given(typed_values, writers, st.integers(0), st.booleans())
def test_partial_does_not_depend_on_cuts_before_it(
    typed: tuple[Any, Any], write: Callable[[Any], str], at: int, growing: bool
) -> None:
    wanted, value = typed
    text = write(value)
    begin = text[: at % (len(text) + 1)]
    at_once, *_ = emitted_by(wanted, begin, growing_items=growing)
    char_by_char = [each for one in emitted_by(wanted, *begin, growing_items=growing)[:-1] for each in one]  # fmt: skip
    assert at_once == char_by_char[-1:]


@cases
@given(typed_values, writers, cuts)
def test_parsed_emits_the_whole_once(
    typed: tuple[Any, Any], write: Callable[[Any], str], cuts: Iterable[int]
) -> None:
    wanted, value = typed
    assert through(parsed(wanted), in_pieces(write(value), cuts)) == [value]


@cases
@given(typed_lists, writers, cuts, st.booleans())
def test_items_equal_those_of_the_list(
    typed: tuple[Any, list[Any]],
    write: Callable[[Any], str],
    cuts: Iterable[int],
    in_object: bool,
) -> None:
    wanted, values = typed
    whole: Any = {"a": {"b": [1]}, "c": "[", "items": values, "d": [2]} if in_object else values
    assert through(items(wanted), in_pieces(write(whole), cuts)) == values


# --- invalid values --------------------------------------------------------------


class _AnyError:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, InvalidAnswerError)


ANY_ERROR = _AnyError()

garbage = st.text(st.sampled_from('{}[]",:\\u0d8e1- \ntrufalsn`~é\ud83d'), max_size=60)


@cases
@given(garbage, cuts, st.sampled_from([Any, Tree, Recipe, Circle | Square, str, list[int]]))
def test_garbage_is_our_error_or_valid_for_msgspec(
    text: str, cuts: Iterable[int], wanted: Any
) -> None:
    pieces = in_pieces(text, cuts)
    whole = through(parsed(wanted), pieces)
    for growing in (False, True):
        grown = through(partials(wanted, growing_items=growing), pieces)
        assert grown[-1:] == whole or (grown[-1], whole[-1]) == (ANY_ERROR, ANY_ERROR)
        assert not any(isinstance(each, Exception) for each in grown[:-1])
    for each in through(items(wanted), pieces):
        assert not isinstance(each, Exception) or isinstance(each, InvalidAnswerError)


@cases
@given(typed_values, writers, st.integers(0), garbage, cuts)
def test_damaged_answer_raises_no_other_error(
    typed: tuple[Any, Any], write: Callable[[Any], str], at: int, inserted: str, cuts: Iterable[int]
) -> None:
    wanted, value = typed
    text = write(value)
    at %= len(text) + 1
    pieces = in_pieces(text[:at] + inserted + text[at:], cuts)
    whole = through(parsed(wanted), pieces)
    grown = through(partials(wanted, growing_items=True), pieces)
    assert grown[-1:] == whole or (grown[-1], whole[-1]) == (ANY_ERROR, ANY_ERROR)


INVALID = [
    (Ingredient, '{"name": "a", "amount": "1"}', "Expected `float`, got `str` - at `$.amount`"),
    (Ingredient, '{"name": "a"}', "Object missing required field `amount`"),
    (Ingredient, '{"name": "a", "amount"', "Input data was truncated"),
    (Ingredient, '{"name": "a", "amount": 1]', "JSON is malformed"),
    (Ingredient, "Sure! {", "JSON is malformed"),
    (Ingredient, 'Sure! {"name": "a"', "Input data was truncated"),
    (list[int], '{"numbers": [1, 2]}', "Expected `array`, got `object`"),
    (Ingredient, '[{"name": "a", "amount": 1}]', "Expected `object`, got `array`"),
    (int, "Between 3 and 12.", "JSON is malformed"),
    (int, "1. Think. 2. Answer.", "JSON is malformed"),
    (int, "12 000", "trailing characters"),
    (Ingredient, "I cannot do that.", "JSON is malformed"),
    (Ingredient, "", "Input data was truncated"),
    (list[Ingredient], '[{"name": 1}]', "Expected `str`, got `int` - at `$[0].name`"),
    (Annotated[str, Meta(max_length=1)], '"ab"', "Expected `str` of length <= 1"),
    (str, '"\ud83d"', "surrogates not allowed"),
    (str, '"\\ud83d"', r"\ud83d is half of a surrogate pair"),
    (str, '"a\\ud83d and more of it"', r"\ud83d is half of a surrogate pair"),
    (str, '"a\\uDE00\n"', r"\uDE00 is half of a surrogate pair"),
    (Box[str], '{"content": "\\ud83d\\ud83d"}', r"\ud83d is half of a surrogate pair"),
    (str, '"\\ud83d', "Input data was truncated"),
    (str, '"\\\n"', "invalid escape character"),
    (Any, "[" * 100_000, "while deserializing an object"),
    (Checked, '{"low": 2, "high": 1, "word": ""}', "low is above high"),
]


@pytest.mark.parametrize("operator", [parsed, partials])
@pytest.mark.parametrize(("type", "text", "reason"), INVALID, ids=range(len(INVALID)))
def test_invalid_answer_is_an_error_with_its_path(
    operator: Any, type: Any, text: str, reason: str
) -> None:
    *_, error = through(operator(type), [text[:5], text[5:]])
    assert isinstance(error, InvalidAnswerError)
    assert reason in error.reason
    assert error.text == text
    assert error.__cause__ is not None


def test_error_names_type_reason_and_path() -> None:
    (error,) = through(parsed(list[Ingredient]), ['[{"name":\n 1}]'])
    assert (error.type, error.text) == ("list[Ingredient]", '[{"name":\n 1}]')
    assert str(error) == (
        "the answer is not JSON of the type list[Ingredient] "
        '(Expected `str`, got `int` - at `$[0].name`): [{"name": 1}]'
    )
    (error,) = through(parsed(Ingredient), ["1"])
    assert error.type == "Ingredient"


def test_exception_of_post_init_is_our_error() -> None:
    class Odd(Struct):
        a: int

        def __post_init__(self) -> None:
            raise KeyError

    *_, error = through(partials(Odd), ['{"a": 1}'])
    assert isinstance(error, InvalidAnswerError)
    assert (error.reason, type(error.__cause__)) == ("KeyError", KeyError)


def test_partials_stop_at_invalid_text_and_fail_at_the_end() -> None:
    assert emitted_by(Ingredient, '{"name": "a', '", "amount": "1"', ', "unit": "g"}') == [
        [Ingredient("a", UNSET)],
        [],
        [],
        [ANY_ERROR],
    ]


INVALID_ITEMS = [
    ('[{"name": "a", "amount": 1}, {"name": 2}]', "Expected `str`, got `int` - at `$[1].name`"),
    ('[{"name": "a", "amount": 1}, 2]', "Expected `object`, got `int` - at `$[1]`"),
    ('{"x": 1, "all": [{"name": "a", "amount": 1}, {}]}', "field `name` - at `$.all[1]`"),
    ('[{"name": "a", "amount": 1}', "Input data was truncated - at `$[1]`"),
    ('[{"name": "a", "amount": 1}, {"na', "Input data was truncated - at `$[1]`"),
    ('[{"name": "a", "amount": 1} {}]', "JSON is malformed - at `$[1]`"),
    ('[{"name": "a", "amount": 1}, {"name": "\\ud83d"}]', "surrogate pair - at `$[1]`"),
    ('{"all": [{"name": "a", "amount": 1}]', "Input data was truncated - at `$.all`"),
]


@pytest.mark.parametrize(("text", "reason"), INVALID_ITEMS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_items_before_an_invalid_one_are_emitted(text: str, reason: str, size: int) -> None:
    deltas = [text[at : at + size] for at in range(0, len(text), size)]
    item, error = through(items(Ingredient), deltas)
    assert item == Ingredient("a", 1.0)
    assert error.type == "list[Ingredient]"
    assert error.reason.endswith(reason)


@pytest.mark.parametrize(
    "text", ["", "  ", "{}", '{"a": 1}', '"a"', "1", "nothing", '{"a": {"b": [1]}}']
)
def test_text_without_an_array_is_an_error(text: str) -> None:
    (error,) = through(items(int), [text])
    assert isinstance(error, InvalidAnswerError)


def test_error_of_an_item_is_emitted_at_once_and_once() -> None:
    source: Subject[str] = Subject()
    got: list[Any] = []
    source.pipe(items(int)).subscribe(got.append, got.append, lambda: got.append("end"))
    source.on_next('[1, "a"')
    assert got == [1, ANY_ERROR]
    assert not source.observers
    assert got[-1].text == '"a"'


# --- types -----------------------------------------------------------------------


class Opaque:
    pass


@pytest.mark.parametrize("operator", [parsed, partials, items])
@pytest.mark.parametrize(
    "type",
    [Opaque, list[Opaque], msgspec.defstruct("S", [("a", Opaque | None)]), object, 3, "Recipe", int | str | list[int] | set[int]],
)  # fmt: skip
def test_type_that_needs_a_hook_raises_at_the_call(operator: Any, type: Any) -> None:
    with pytest.raises(TypeError):
        operator(type)


# --- fences ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        " \n[1, 2]\n ",
        "\ufeff[1, 2]",
        "```json\n[1, 2]\n```",
        "\n\n```\n[1, 2]```",
        "```json\n[1, 2]",
        "~~~~JSON5 x=1\r\n[1, 2]\r\n~~~~\r\n",
        "Sure:\n  ```json\n[1,\n2]\n  ```\nAnd:\n```sh\nls\n```",
        "the numbers\n```json\n[1, 2]\n``` \n\n",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_value_is_found_alone_and_between_fences(text: str, size: int) -> None:
    deltas = [text[at : at + size] for at in range(0, len(text), size)]
    assert through(parsed(list[int]), deltas) == [[1, 2]]
    assert through(partials(list[int]), deltas)[-1] == [1, 2]
    assert through(items(int), deltas) == [1, 2]


def test_backticks_in_a_string_close_nothing() -> None:
    value = {"code": "```sh\nls\n```"}
    for text in (
        json.dumps(value),
        f"```json\n{json.dumps(value)}\n```",
        f"```\n{json.dumps(value)}",
    ):
        assert through(parsed(dict[str, str]), list(text)) == [value]
        assert through(partials(dict[str, str]), list(text))[-1] == value


def test_value_is_emitted_when_it_closes_and_only_once() -> None:
    assert emitted_by(list[int], "```\n[1", "]", "\n```", "\nbye") == [[[]], [[1]], [], [], []]


def test_words_after_a_value_change_nothing() -> None:
    assert emitted_by(list[int], "[1]", " bye", " [2]") == [[[1]], [], [], []]


# --- among words -----------------------------------------------------------------

RECIPE = {"name": "a", "amount": 1}
AMONG_WORDS: dict[str, tuple[Any, str, Any]] = {
    "words before": (dict[str, str], 'Sure! {"a":"x"}', {"a": "x"}),
    "words after": (dict[str, str], '{"a":"x"} Anything else?', {"a": "x"}),
    "a fence in one line": (dict[str, str], '```json {"a":"x"}```', {"a": "x"}),
    "a fence in one line, no word": (dict[str, str], 'See: ```{"a":"x"}``` Bye.', {"a": "x"}),
    "inline code": (list[int], "It is `[1, 2]`.", [1, 2]),
    "tags": (dict[str, int], '<json>{"a":1}</json>', {"a": 1}),
    "braces of prose": (dict[str, int], 'Use {x} or { y }: {"a":1}', {"a": 1}),
    "brackets of prose": (list[str], 'See [above], [x] and [ ]: ["a"]', ["a"]),
    "a citation": (list[int], "By [1]: [1, 2, 3]", [1, 2, 3]),
    "a citation alone": (list[int], "The numbers are [1].", [1]),
    "empty ones of prose": (dict[str, int], 'Not {} but {"a":1}', {"a": 1}),
    "an empty one alone": (dict[str, int], "There are none: {}", {}),
    "an array of another kind": (list[Ingredient], f"Of [1, 2]: {json.dumps([RECIPE])}", [Ingredient("a", 1)]),
    "an object of another kind": (list[int], 'From {"a": [1]} I get [2, 3]', [2, 3]),
    "a string of another kind": (dict[str, int], '"Use {}": {"a": 1}', {"a": 1}),
    "a number before": (Any, 'Here are 2 of them: {"a": 1}', {"a": 1}),
    "a numbered list": (dict[str, int], '1. The first: {"a": 1}', {"a": 1}),
    "two values": (dict[str, int], '{"a": 1}\n{"a": 2}', {"a": 1}),
    "one bracket too many": (dict[str, int], '{"a": 1}}', {"a": 1}),
    "braces in its strings": (dict[str, str], 'So: {"a": "}]```"} }', {"a": "}]```"}),
    "a fence after words with braces": (dict[str, int], 'In {x}:\n```json\n{"a": 1}\n```', {"a": 1}),
    "a fence with attributes": (list[int], "~~~ {.json}\n[1, 2]\n~~~", [1, 2]),
    "spread over lines": (dict[str, int], 'So\n{\n  "a": 1\n}\nBye', {"a": 1}),
    "lists of lists": (list[list[int]], "See [[wiki]]: [[1], []]", [[1], []]),
    "tuples": (tuple[int, str], 'It is [1, "a"].', (1, "a")),
    "a union": (Circle | Square | None, 'A {"kind": "square", "label": "a", "side": 1}!', Square("a", 1)),
    "a number": (int, "The answer is 42.", 42),
    "a number and words": (int, "42 is the answer to all 7 questions", 42),
    "a number twice": (float, "It is **7.5**. Yes, 7.5!", 7.5),
    "a number in a fence": (int, "In 2024 it was:\n```\n7\n```\nNot 8.", 7),
    "a word": (bool, "That is true.", True),
    "none": (int | None, "It is null", None),
    "a string": (str, 'He said "yes".', "yes"),
    "a literal": (Literal["a", "b"], 'The "right" one is "b".', "b"),
    "a date": (date, 'On "2026-01-02", I think.', date(2026, 1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", AMONG_WORDS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_first_value_of_the_kind_counts(case: str, size: int) -> None:
    wanted, text, value = AMONG_WORDS[case]
    deltas = [text[at : at + size] for at in range(0, len(text), size)]
    assert through(parsed(wanted), deltas) == [value]
    assert through(partials(wanted), deltas)[-1:] == [value]


def test_number_with_metadata_is_found_among_words() -> None:
    number = Annotated[int, Meta(title="a count")] | None
    assert through(parsed(number), ["There are ", "5 of them."]) == [5]


def test_value_among_words_grows_as_it_arrives() -> None:
    assert emitted_by(Ingredient, "Sure {x}! ", '{"', 'name": "fl', 'our"', "} bye")[:4] == [
        [],
        [Ingredient(UNSET, UNSET)],
        [Ingredient("fl", UNSET)],
        [Ingredient("flour", UNSET)],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("By [1]: [2, 3] and [4]", [2, 3]),
        ('Sure! {"n": 2, "all": [2, 3]} Bye', [2, 3]),
        ("There are none: []", []),
        ("```[2, 3]```", [2, 3]),
        ("Only [2].", [2]),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_items_of_an_array_among_words(text: str, expected: list[int], size: int) -> None:
    deltas = [text[at : at + size] for at in range(0, len(text), size)]
    assert through(items(int), deltas) == expected


words = st.text(st.sampled_from("ab .,:;!?-\n{}[x]()`~"), max_size=30)


@cases
@given(typed_values, words, words, cuts)
def test_value_is_found_among_words_for_any_cuts(
    typed: tuple[Any, Any], before: str, after: str, cuts: Iterable[int]
) -> None:
    wanted, value = typed
    text = f"{before} {compact(value)} {after}"
    whole = through(parsed(wanted), [text])
    grown = through(partials(wanted), in_pieces(text, cuts))
    assert grown[-1:] == whole or (grown[-1], whole[-1]) == (ANY_ERROR, ANY_ERROR)
    if isinstance(value, (Struct, dict)) and compact(value) != "{}" and not {*before} & {*"{["}:
        assert whole == [value]


# --- control characters ----------------------------------------------------------

CONTROLS = "".join(map(chr, range(0x20))) + "\x7f\x85"


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_raw_control_characters_in_strings_are_accepted(size: int) -> None:
    text = f'{{"content":\n"a\\n{CONTROLS}", "more":\t["{CONTROLS}", "\\\\", "\\ud83d\\ude00"]}}'
    value = Box(f"a\n{CONTROLS}", [CONTROLS, "\\", "😀"])
    deltas = [text[at : at + size] for at in range(0, len(text), size)]
    assert through(parsed(Box[str]), deltas) == [value]
    for growing in (False, True):
        assert through(partials(Box[str], growing_items=growing), deltas)[-1] == value
    assert through(items(str), deltas) == value.more
    assert through(items(Box[str]), [f"[{text}]"]) == [value]
    assert FunctionCall(name="f", arguments=text).arguments_as(Box[str]) == value


def test_raw_control_characters_in_keys_are_accepted() -> None:
    text = '{"a\nb": "x", "c\\td\t": "y"}'
    for operator in (parsed(dict[str, str]), partials(dict[str, str])):
        assert through(operator, list(text))[-1] == {"a\nb": "x", "c\td\t": "y"}


def test_control_characters_outside_strings_are_invalid() -> None:
    assert through(parsed(list[int]), ["[1,\x01 2]"]) == [ANY_ERROR]
    with pytest.raises(InvalidAnswerError, match=r"half of a surrogate pair"):
        FunctionCall(name="f", arguments=r'{"a": "\ud83d"}').arguments_as(dict)


# --- as operators ----------------------------------------------------------------


class Sample(NamedTuple):
    """An operator, the deltas of a value, and the items emitted for each, and at the end."""

    operator: Callable[[Observable[str]], Stream[Any]]
    emitted: tuple[list[Any], list[Any], list[Any]]
    deltas: tuple[str, str] = ("[1,", "2]")


SAMPLES = {
    "parsed": Sample(parsed(list[int]), ([], [], [[1, 2]])),
    "partials": Sample(partials(list[int]), ([[1]], [[1, 2]], [])),
    "items": Sample(items(int), ([1], [2], [])),
}


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Sample:
    return request.param


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


def test_items_and_the_end_are_emitted_in_time(sample: Sample, scheduler: TestScheduler) -> None:
    first, second = sample.deltas
    source = scheduler.create_cold_observable(
        on_next(10, first), on_next(20, second), on_completed(30)
    )
    result = scheduler.start(lambda: source.pipe(sample.operator))
    assert result.messages == [
        *(on_next(210 + 10 * at, each) for at, some in enumerate(sample.emitted) for each in some),
        on_completed(230),
    ]
    assert source.subscriptions == [Subscription(200, 230)]


def test_silent_source_is_disposed_on_dispose(sample: Sample, scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable()
    assert scheduler.start(lambda: source.pipe(sample.operator)).messages == []
    assert source.subscriptions == [Subscription(200, 1000)]


def test_empty_text_is_an_error(sample: Sample, scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_completed(10))
    (message,) = scheduler.start(lambda: source.pipe(sample.operator)).messages
    assert (message.time, message.value.kind) == (210, "E")
    assert message.value.exception == ANY_ERROR


@pytest.mark.parametrize("before", [0, 1])
def test_error_passes_after_emitted_items(
    sample: Sample, scheduler: TestScheduler, before: int
) -> None:
    error = RuntimeError("it broke")
    deltas = [on_next(10, sample.deltas[0])][:before]
    source = scheduler.create_cold_observable(*deltas, on_error(20, error))
    result = scheduler.start(lambda: source.pipe(sample.operator))
    assert result.messages == [
        *(on_next(210, each) for each in sample.emitted[0] if before),
        on_error(220, error),
    ]
    assert source.subscriptions == [Subscription(200, 220)]


def test_nothing_is_emitted_after_early_dispose(sample: Sample, scheduler: TestScheduler) -> None:
    first, second = sample.deltas
    source = scheduler.create_cold_observable(on_next(10, first), on_next(20, second))
    result = scheduler.start(lambda: source.pipe(sample.operator), disposed=215)
    assert result.messages == [on_next(210, each) for each in sample.emitted[0]]
    assert source.subscriptions == [Subscription(200, 215)]


def test_synchronous_source_ends_before_subscribe_returns(sample: Sample) -> None:
    assert through(sample.operator, sample.deltas) == [each for some in sample.emitted for each in some]  # fmt: skip


def test_two_subscriptions_share_no_state(sample: Sample) -> None:
    source: Subject[str] = Subject()
    piped = source.pipe(sample.operator)
    first: list[Any] = []
    second: list[Any] = []
    piped.subscribe(first.append)
    source.on_next(sample.deltas[0])
    piped.subscribe(second.append, second.append)
    source.on_next(sample.deltas[1])
    source.on_completed()
    assert first == [each for some in sample.emitted for each in some]
    assert second == [ANY_ERROR]


def test_exception_of_callback_is_raised_to_the_source(sample: Sample) -> None:
    source: Subject[str] = Subject()
    errors: list[Exception] = []
    raised = InvalidAnswerError("int", "reason", "text")

    def fail(_: object) -> None:
        raise raised

    source.pipe(sample.operator).subscribe(fail, errors.append)
    try:
        for delta in sample.deltas:
            source.on_next(delta)
    except InvalidAnswerError as error:
        errors.append(error)
    else:  # emitted at the end, after which no error can be raised to the source
        source.on_completed()
    assert errors == [raised]


def test_pipe_returns_a_stream(sample: Sample) -> None:
    piped = reactivex.of(*sample.deltas).pipe(sample.operator)
    assert isinstance(piped, Stream)
    assert list(piped) == [each for some in sample.emitted for each in some]


def test_items_can_be_left_in_the_middle_of_a_delta() -> None:
    got: list[int] = []
    reactivex.of("[1, 2, 3]").pipe(items(int), reactivex.operators.take(2)).subscribe(got.append)
    assert got == [1, 2]


# --- cost ------------------------------------------------------------------------


def recipe_json(size: int) -> str:
    each = Ingredient("two cups of flour, sifted\n", 1.5, Unit.GRAM)
    recipe = Recipe("Crêpes", 20, True, "main", [], ["stir " * 40], {}, 4, "x" * (size // 2))
    recipe.ingredients = [each] * (size // 2 // len(compact(each)))
    return compact(recipe)


def seconds(operator: Callable[[Observable[str]], Stream[Any]], text: str) -> float:
    """For a text in deltas of 40 characters."""
    deltas = [text[at : at + 40] for at in range(0, len(text), 40)]
    source: Subject[str] = Subject()
    ended: list[bool] = []
    source.pipe(operator).subscribe(on_error=ended.append, on_completed=lambda: ended.append(True))
    begin = time.process_time()
    for delta in deltas:
        source.on_next(delta)
    source.on_completed()
    assert ended
    return time.process_time() - begin


COSTS: dict[str, tuple[Callable[..., Any], Callable[[int], str]]] = {
    "partials": (lambda: partials(Recipe), recipe_json),
    "growing items": (lambda: partials(Recipe, growing_items=True), recipe_json),
    "parsed": (lambda: parsed(Recipe), recipe_json),
    "items": (lambda: items(Any), lambda size: "[" + "1.5, " * (size // 5) + "0]"),
    "brackets": (lambda: partials(Any, growing_items=True), lambda size: "[" * size),
    "objects": (lambda: partials(Any), lambda size: '{"a":' * (size // 5)),
    "a key": (lambda: partials(Any), lambda size: '{"' + "a" * size),
    "a number": (lambda: partials(Any), lambda size: "1" * size),
    "a skipped string": (lambda: partials(Recipe), lambda size: '{"x": "' + "\\\\" * (size // 2)),
    "a tag that never arrives": (lambda: partials(Circle | Square), lambda size: "{" + " " * size),
    "prose": (lambda: partials(Any), lambda size: "So `` it is ~~ " * (size // 15)),
    "prose in lines": (lambda: items(Any), lambda size: "So\n``\n" * (size // 6)),
}


@pytest.mark.parametrize("case", COSTS)
def test_cost_is_linear_in_the_text(case: str) -> None:
    make, text = COSTS[case]
    small, large = text(50_000), text(200_000)
    # A quadratic part would make it 16. The best of several runs: the machine is shared.
    for _ in range(5):
        least = min(seconds(make(), small) for _ in range(3))
        ratio = min(seconds(make(), large) for _ in range(2)) / least
        if ratio < 8:
            break
    assert ratio < 8


HEAVY = [
    (Box[str], compact(Box("x" * 60_000)), lambda value: len(value.content or "")),
    (list[int], compact([1] * 20_000), len),
    (dict[str, int], compact({f"{number}": 1 for number in range(5_000)}), len),
    (list[list[int]], compact([[1] * 20_000]), lambda value: sum(map(len, value))),
]


@pytest.mark.parametrize(("wanted", "text", "size"), HEAVY, ids=range(len(HEAVY)))
def test_all_values_together_have_a_bounded_size(
    wanted: Any, text: str, size: Callable[[Any], int]
) -> None:
    got = through(partials(wanted, growing_items=True), in_pieces(text, range(0, len(text), 10)))
    assert sum(map(size, got)) < 256 * len(text)
    assert len(got) > 200


def test_heavy_value_lags_by_a_hundredth_at_most() -> None:
    source: Subject[str] = Subject()
    shown = [""]
    source.pipe(partials(str)).subscribe(shown.append, lambda _: None)
    source.on_next('"')
    for size in range(20_000):
        assert size - len(shown[-1]) <= (0 if size <= 4_000 else size // 100)
        source.on_next("x")
    assert len(shown[-1]) < 20_000


def test_heavy_value_is_not_emitted_again_when_it_closes() -> None:
    numbers = list(range(300))
    assert through(partials(list[int]), [f"{numbers}"[:-1] + " ", " ", "]"]) == [numbers]


@pytest.mark.parametrize("end", ["an error", "a wrong text", "an early end"])
def test_heavy_value_is_emitted_before_an_error(end: str) -> None:
    source: Subject[str] = Subject()
    got: list[Any] = []
    source.pipe(partials(str)).subscribe(got.append, got.append)
    source.on_next('"' + "x" * 20_000)
    source.on_next("yz")
    assert got[-1][-1] == "x"
    if end == "an error":
        source.on_error(RuntimeError("it broke"))
    if end == "a wrong text":
        source.on_next("\\x")
    source.on_completed()
    assert [type(each) for each in got[1:]] == [
        str,
        RuntimeError if end == "an error" else InvalidAnswerError,
    ]
    assert got[1][-2:] == "yz"


# --- response formats ------------------------------------------------------------


def sent_schema(type: Any) -> dict[str, Any]:
    body = encode_body("m", [{"role": "user", "content": "Hi"}], {"response_format": type}, None)
    response_format: dict[str, Any] = json.loads(body)["response_format"]
    assert response_format["type"] == "json_schema"
    assert response_format["json_schema"]["strict"] is True
    return response_format["json_schema"]


def test_struct_as_response_format_is_sent_as_its_schema() -> None:
    class Parcel(Struct):
        """A parcel."""

        sender: Address
        weight: float = 1.0

    assert sent_schema(Parcel) == {
        "name": "Parcel",
        "schema": {
            "title": "Parcel",
            "description": "A parcel.",
            "type": "object",
            "properties": {
                "sender": {"$ref": "#/$defs/Address"},
                "weight": {"type": "number", "default": 1.0},
            },
            "required": ["sender"],
            "additionalProperties": False,
            "$defs": {
                "Address": {
                    "title": "Address",
                    "type": "object",
                    "properties": {
                        "type": {"enum": ["address"]},
                        "firstLine": {"type": "string"},
                        "zipCode": {"type": "string", "default": ""},
                    },
                    "required": ["type", "firstLine"],
                    "additionalProperties": False,
                }
            },
        },
        "strict": True,
    }


def objects_in(schema: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(schema, dict) and schema.get("type") == "object":
        yield schema
    inner = schema.values() if isinstance(schema, dict) else schema
    if isinstance(inner, Iterable) and not isinstance(inner, str):
        for each in inner:
            yield from objects_in(each)


def test_schema_closes_every_object_except_dicts() -> None:
    objects = list(objects_in(sent_schema(Recipe)["schema"]))
    assert [each.get("title") for each in objects] == ["Recipe", None, "Ingredient"]
    assert [each["additionalProperties"] for each in objects] == [False, {"type": "string"}, False]


def test_recursive_type_keeps_its_definition() -> None:
    schema = sent_schema(Tree)["schema"]
    assert schema["type"] == schema["$defs"]["Tree"]["type"] == "object"
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("type", "name"),
    [
        (Box[int], "Box_int"),
        (list[Ingredient], "answer"),
        (Circle | Square, "answer"),
        (msgspec.defstruct("食谱", []), "answer"),
        (msgspec.defstruct("A" * 99, []), "A" * 64),
        (Song, "Song"),
        (Movie, "Movie"),
    ],
)
def test_schema_has_a_name_that_services_accept(type: Any, name: str) -> None:
    assert sent_schema(type)["name"] == name


@pytest.mark.parametrize("type", [Recipe, Tree, Song, Movie, Circle | Square, dict[str, int]])
def test_schema_of_objects_has_an_object_at_its_top(type: Any) -> None:
    schema = sent_schema(type)["schema"]
    assert schema["type"] == "object"
    assert "$ref" not in schema


WRAPPED: list[tuple[Any, str, Any, dict[str, Any]]] = [
    (list[int], "[1, 2]", [1, 2], {"type": "array", "items": {"type": "integer"}}),
    (Literal["a", "b"], '"b"', "b", {"enum": ["a", "b"]}),
    (Unit, '"g"', Unit.GRAM, {"title": "Unit", "enum": ["g", "l"]}),
    (str, '"text"', "text", {"type": "string"}),
    (int | None, "12", 12, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    (bool, "true", True, {"type": "boolean"}),
]


@pytest.mark.parametrize(("type", "text", "value", "inner"), WRAPPED)
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "form", ['{"value":%s}', '\n { "value" : %s }\n', '```\n{"value": %s}\n```']
)
def test_value_that_is_not_an_object_is_in_one(
    type: Any, text: str, value: Any, inner: dict[str, Any], size: int, form: str
) -> None:
    schema = sent_schema(type)["schema"]
    definitions = schema.pop("$defs", {})
    assert schema == {
        "type": "object",
        "properties": {"value": {"$ref": "#/$defs/Unit"} if definitions else inner},
        "required": ["value"],
        "additionalProperties": False,
    }
    assert list(definitions.values()) in ([], [inner])
    answer = form % text
    deltas = [answer[at : at + size] for at in range(0, len(answer), size)]
    assert through(parsed(type), deltas) == [value]
    assert through(partials(type), deltas)[-1] == value


def test_wrapped_value_grows() -> None:
    text = '{"value": [1, 2]}'
    assert through(partials(list[int]), list(text)) == [[], [1], [1, 2]]
    assert through(partials(str), ['{"val', 'ue": "a', 'b"', "}"]) == ["a", "ab"]


def test_object_that_wraps_nothing_is_skipped() -> None:
    for text in ('{"valu": [1]} [2]', '{"value_": [1]} [2]', '{"values": [1]} [2]', "{} [2, 3]"):
        assert through(parsed(list[int]), list(text)) in ([[2]], [[2, 3]])


def test_items_of_a_wrapped_list_are_emitted() -> None:
    assert through(items(int), list('{"value": [1, 2]}')) == [1, 2]


@pytest.mark.parametrize("type", [Ingredient | None, dict[str, int] | int, list[int] | Song])
def test_type_of_objects_and_others_has_no_response_format(type: Any) -> None:
    with pytest.raises(TypeError, match=r"some are not; make it a field of a Struct: .*\), got"):
        sent_schema(type)


def test_error_of_an_optional_type_names_a_struct_that_works() -> None:
    with pytest.raises(TypeError) as raised:
        sent_schema(Ingredient | None)
    code = re.search("`(.*)`", str(raised.value))
    assert code is not None
    names: dict[str, Any] = {"msgspec": msgspec, "Ingredient": Ingredient}
    exec(compile(code[1], "", "exec", dont_inherit=True), names)  # the remedy of the message
    assert sent_schema(names["Answer"])["schema"]["required"] == ["value"]
    for text, value in [
        ('{"value": null}', None),
        ('{"value": {"name": "a", "amount": 1}}', Ingredient("a", 1)),
    ]:
        assert through(parsed(names["Answer"]), [text]) == [names["Answer"](value)]


@pytest.mark.parametrize("type", [Opaque, list[Opaque], msgspec.defstruct("S", [("a", complex)])])
def test_type_without_a_schema_raises_at_the_call(type: Any) -> None:
    with pytest.raises(
        TypeError, match=r"response_format must be a type that has a JSON schema \(msgspec cannot"
    ):
        sent_schema(type)


def test_other_response_formats_are_sent_unchanged() -> None:
    body = encode_body("m", [{"role": "user", "content": "Hi"}], {"response_format": {"type": "json_object"}}, None)  # fmt: skip
    assert json.loads(body)["response_format"] == {"type": "json_object"}
