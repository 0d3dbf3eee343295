"""Tools made from functions: what is sent, and how a model's arguments become a call."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from msgspec import Meta, Struct

import rxmistral
from rxmistral.chat.tools import FunctionTool, ToolError, result_text, tool
from rxmistral.errors import MistralError
from rxmistral.models import Tool

if TYPE_CHECKING:
    from nowhere import Forecast  # type: ignore[import-not-found]  # a result may be unknown


class Place(Struct):
    latitude: float
    longitude: float = 0.0


class Unit(Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


@dataclass
class Night:
    on: date


class Options(TypedDict, total=False):
    wind: bool


def weather(
    city: Annotated[str, Meta(description="The name of a city.")],
    unit: Unit = Unit.CELSIUS,
    *,
    at: Place | None = None,
    speed: Literal["slow", "fast"] = "fast",
    days: Annotated[int, Meta(ge=1)] = 1,
    nights: list[Night] = [],  # noqa: B006  # a default that is not plain
    options: Options | None = None,
    note=None,  # type: ignore[no-untyped-def]
) -> Forecast:
    """Returns the weather.

    Of one city.
    """
    return city, unit, at, speed, days, nights, options, note


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    return tool(function).function.parameters


# --- the schema ------------------------------------------------------------------


def test_tool_describes_its_function() -> None:
    place = {
        "title": "Place",
        "type": "object",
        "properties": {
            "latitude": {"type": "number"},
            "longitude": {"type": "number", "default": 0.0},
        },
        "required": ["latitude"],
    }
    night = {
        "title": "Night",
        "type": "object",
        "properties": {"on": {"type": "string", "format": "date"}},
        "required": ["on"],
    }
    options = {
        "title": "Options",
        "type": "object",
        "properties": {"wind": {"type": "boolean"}},
        "required": [],
    }
    unit = {"title": "Unit", "enum": ["c", "f"]}
    sent = msgspec.to_builtins(tool(weather))
    for name in ("at", "options"):
        nullable = sent["function"]["parameters"]["properties"].pop(name)
        assert nullable["default"] is None
        assert {"type": "null"} in nullable["anyOf"]
        assert {"$ref": f"#/$defs/{'Place' if name == 'at' else 'Options'}"} in nullable["anyOf"]
    assert sent == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Returns the weather.\n\nOf one city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The name of a city."},
                    "unit": {"$ref": "#/$defs/Unit", "default": "c"},
                    "speed": {"enum": ["fast", "slow"], "default": "fast"},
                    "days": {"type": "integer", "minimum": 1, "default": 1},
                    "nights": {"type": "array", "items": {"$ref": "#/$defs/Night"}},
                    "note": {"default": None},
                },
                "required": ["city"],
                "$defs": {"Place": place, "Night": night, "Options": options, "Unit": unit},
            },
        },
    }


def test_tool_without_parameters_has_an_empty_object() -> None:
    def now() -> str:
        return "12:00"

    assert msgspec.to_builtins(tool(now)) == {
        "type": "function",
        "function": {
            "name": "now",
            "parameters": {"type": "object", "properties": {}, "required": []},
        },
    }


def test_decorator_works_with_and_without_arguments() -> None:
    @tool
    def one(a: int) -> int:
        """First."""
        return a

    @tool(name="second-1", description="Second.", strict=True)
    def two(a: int) -> int:
        """Replaced."""
        return a

    assert (one.function.name, one.function.description, one.function.strict) == (
        "one",
        "First.",
        None,
    )
    assert msgspec.to_builtins(two.function) == {
        "name": "second-1",
        "description": "Second.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    }
    assert rxmistral.tool is tool


def test_strict_schema_closes_nested_objects() -> None:
    def locate(place: Place) -> None: ...

    for strict in (False, True):
        definition = tool(locate, strict=strict).function.parameters["$defs"]["Place"]
        assert definition.get("additionalProperties") == (False if strict else None)


def test_description_of_an_optional_parameter_is_at_its_top() -> None:
    def find(near: Annotated[str | None, Meta(description="A city.")] = None) -> None: ...

    assert parameters(find)["properties"]["near"] == {
        "description": "A city.",
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "default": None,
    }


def test_infinite_default_is_not_sent() -> None:
    def cheaper(limit: float = math.inf) -> float:
        return limit

    assert parameters(cheaper)["properties"] == {"limit": {"type": "number"}}
    assert tool(cheaper).call_with("") == math.inf


class Shop:
    """Sells things."""

    def price(self, thing: str) -> str:
        """Returns a price."""
        return f"{thing}: 1"

    @classmethod
    def open(cls, thing: str) -> str:
        return f"open {thing}"

    @staticmethod
    def close(thing: str) -> str:
        return f"close {thing}"

    @functools.lru_cache  # noqa: B019  # one call
    def cached(self, thing: str) -> str:
        return f"cached {thing}"

    def __call__(self, thing: str) -> str:
        return f"called {thing}"


CALLABLES: list[tuple[Callable[..., Any], str, str]] = [
    (Shop().price, "price", "a: 1"),
    (Shop.open, "open", "open a"),
    (Shop.close, "close", "close a"),
    (Shop().cached, "cached", "cached a"),
    (Shop(), "Shop", "called a"),
    (functools.partial(Shop().price), "price", "a: 1"),
    (functools.lru_cache(Shop.close), "close", "close a"),
    (tool(Shop.close), "close", "close a"),
]


@pytest.mark.parametrize(("function", "name", "result"), CALLABLES)
def test_callables_of_all_kinds_are_tools(
    function: Callable[..., Any], name: str, result: str
) -> None:
    made = tool(function)
    assert made.function.name == name
    assert made.function.parameters["properties"] == {"thing": {"type": "string"}}
    assert made.call_with('{"thing": "a"}') == made("a") == result


def test_partial_hides_its_arguments_from_the_model() -> None:
    def pay(amount: int, account: str, note: str = "") -> tuple[int, str, str]:
        """Pays."""
        return amount, account, note

    made = tool(functools.partial(pay, account="mine"))
    assert list(made.function.parameters["properties"]) == ["amount", "note"]
    assert made.function.description == "Pays."
    assert made.call_with('{"amount": 1, "account": "yours"}') == (1, "mine", "")


def test_tool_of_a_tool_keeps_its_description() -> None:
    first = tool(Shop.close, name="shut", description="Shuts.")
    again = tool(first)
    assert again == first
    assert again.__wrapped__ is Shop.close


# --- what cannot be a tool ---------------------------------------------------------


def with_args(*things: str) -> None: ...
def with_kwargs(**things: str) -> None: ...
def with_positional(thing: str, /) -> None: ...
def with_unknown(thing: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def with_opaque(thing: list[Shop]) -> None: ...
def with_union(thing: Shop | int) -> None: ...
def with_yield(thing: str) -> Iterator[str]:
    yield thing


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (with_args, TypeError, r"parameter '\*things' of with_args cannot be given by name"),
    (with_kwargs, TypeError, r"'\*\*things' of with_kwargs cannot be given by name"),
    (with_positional, TypeError, "'thing' of with_positional cannot be given by name"),
    (with_unknown, TypeError, "annotation of with_unknown cannot be resolved: name 'Unknown'"),
    (with_opaque, TypeError, "parameter 'thing' of with_opaque: msgspec cannot decode .*Shop"),
    (with_union, TypeError, "parameter 'thing' of with_union: expected a type that msgspec"),
    (with_yield, TypeError, "must not be a generator function.* make it an async generator"),
    (Shop.price, TypeError, "price is a method without its object"),
    (Shop, TypeError, "must be a function or method, got the class .*Shop"),
    (max, TypeError, "the parameters of max are not known"),
    (3, TypeError, "function must be callable, got int"),
    (lambda thing: thing, ValueError, "1 to 64 letters, digits, '_' and '-', got '<lambda>'"),
]


@pytest.mark.parametrize(("function", "kind", "message"), REFUSED)
def test_function_that_no_model_can_call_is_refused(
    function: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        tool(function)


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "é", "line\n", "a.b"])
def test_name_that_services_refuse_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a tool must be"):
        tool(Shop.close, name=name)
    with pytest.raises(TypeError, match="name must be a str, got int"):
        tool(Shop.close, name=3)  # type: ignore[call-overload]


# --- calls -----------------------------------------------------------------------


def test_arguments_are_decoded_into_the_annotated_types() -> None:
    arguments = (
        '{"city": "Par\nis", "unit": "f", "at": {"latitude": 1}, "nights": [{"on": "2026-01-02"}],'
        ' "options": {"wind": true}, "note": [1]}'
    )
    assert tool(weather).call_with(arguments) == (
        "Par\nis",
        Unit.FAHRENHEIT,
        Place(1.0),
        "fast",
        1,
        [Night(date(2026, 1, 2))],
        {"wind": True},
        [1],
    )
    assert tool(weather).call_with({"city": "a", "unit": "c"})[0] == "a"


@pytest.mark.parametrize("arguments", ["", " \n", "{}", {}, None])
def test_missing_arguments_are_the_defaults(arguments: Any) -> None:
    def search(limit: int = 3, kinds: list[str] = DEFAULT_KINDS) -> tuple[int, list[str]]:
        return limit, kinds

    limit, kinds = tool(search).call_with(arguments)
    assert limit == 3
    assert kinds is DEFAULT_KINDS


DEFAULT_KINDS = ["a"]


def test_null_counts_as_a_default_of_none() -> None:
    def search(limit: int = None) -> int | None:  # type: ignore[assignment]  # noqa: RUF013
        return limit

    assert tool(search).call_with('{"limit": null}') is None


INVALID = [
    ('{"city": 1}', "Expected `str`, got `int` - at `$.city`"),
    ("", "Object missing required field `city`"),
    ("[]", "Expected `object`, got `array`"),
    ('{"city": "a", "at": {}}', "Object missing required field `latitude` - at `$.at`"),
    ('{"city": "a", "days": 0}', "Expected `int` >= 1 - at `$.days`"),
    (
        '{"city": "a", "nights": [{"on": "now"}]}',
        "Invalid RFC3339 encoded date - at `$.nights[0].on`",
    ),
    ('{"city": "a"', "Input data was truncated"),
    ("nonsense", "JSON is malformed"),
    ('{"city": "\\ud83d"}', r"\ud83d is half of a surrogate pair"),
    ('{"city": "a", "note": ' + "[" * 100_000, "while deserializing"),
]


@pytest.mark.parametrize(("arguments", "reason"), INVALID, ids=range(len(INVALID)))
def test_invalid_arguments_are_an_error_for_the_model(arguments: str, reason: str) -> None:
    with pytest.raises(ToolError) as caught:
        tool(weather).call_with(arguments)
    assert str(caught.value).startswith("the arguments of weather are invalid: ")
    assert reason in str(caught.value)
    assert caught.value.__cause__ is not None
    assert not issubclass(ToolError, MistralError)
    assert rxmistral.ToolError is ToolError


def test_exception_of_post_init_is_an_error_for_the_model() -> None:
    class Odd(Struct):
        number: int

        def __post_init__(self) -> None:
            raise KeyError

    def half(odd) -> None: ...  # type: ignore[no-untyped-def]

    half.__annotations__["odd"] = Odd
    with pytest.raises(ToolError, match="the arguments of half are invalid: KeyError"):
        tool(half).call_with('{"odd": {"number": 2}}')


def test_exception_of_the_function_is_raised_unchanged() -> None:
    def fail() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"\Amine\Z"):
        tool(fail).call_with("{}")


@pytest.mark.parametrize(("strict", "is_refused"), [(True, True), (False, False), (None, False)])
def test_unknown_arguments_are_refused_if_strict(strict: bool | None, is_refused: bool) -> None:
    made = tool(Shop.close, strict=strict)
    assert made.function.parameters.get("additionalProperties") == (False if is_refused else None)
    arguments = '{"thing": "a", "other": 1}'
    if is_refused:
        with pytest.raises(ToolError, match="unknown field `other`"):
            made.call_with(arguments)
    else:
        assert made.call_with(arguments) == "close a"


def test_tool_is_callable_as_its_function() -> None:
    made = tool(Shop.close)
    assert made("door") == made(thing="door") == "close door"
    assert isinstance(made, Tool)
    assert inspect.signature(made) == inspect.signature(Shop.close)
    assert (made.__name__, made.__wrapped__) == ("close", Shop.close)


def test_coroutine_function_returns_a_coroutine() -> None:
    @tool
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def both() -> tuple[int, int]:
        return await later(1), await later.call_with('{"number": 2}')

    assert asyncio.run(both()) == (2, 4)


def close_anything(thing: str) -> str:
    return f"close {thing}"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))]
)
def test_copy_of_a_tool_can_be_called(copied: Callable[[Any], FunctionTool[..., str]]) -> None:
    made = tool(close_anything, name="shut", strict=True)
    again = copied(made)
    assert again == made
    assert again is not made
    assert again.call_with('{"thing": "a"}') == "close a"


# --- pydantic --------------------------------------------------------------------


def test_pydantic_models_are_parameters() -> None:
    pydantic = pytest.importorskip("pydantic")
    person: Any = pydantic.create_model("Person", name=(str, ...), age=(int, 3))

    def greet(person, others=None): ...  # type: ignore[no-untyped-def]

    greet.__annotations__.update(person=person, others=list[person] | None)
    made = tool(lambda person, others=None: (person, others), name="greet")
    assert made.call_with('{"person": 1}') == (1, None)

    made = tool(functools.wraps(greet)(lambda person, others=None: (person, others)))
    assert made.function.parameters["type"] == "object"
    assert made.function.parameters["$defs"]["Person"]["properties"].keys() == {"name", "age"}
    assert made.call_with('{"person": {"name": "a"}, "others": [{"name": "b"}]}') == (
        person(name="a"),
        [person(name="b")],
    )
    with pytest.raises(ToolError, match=r"valid integer.* - at `\$\.others\[1\]\.age`"):
        made.call_with(
            '{"person": {"name": "a"}, "others": [{"name": "b"}, {"name": "", "age": ""}]}'
        )


# --- results ---------------------------------------------------------------------

RESULTS = [
    ("text", "text"),
    (None, "null"),
    (True, "true"),
    (
        [Place(1.0), {"a": date(2026, 1, 2)}],
        '[{"latitude":1.0,"longitude":0.0},{"a":"2026-01-02"}]',
    ),
    (Night(date(2026, 1, 2)), '{"on":"2026-01-02"}'),
    (MappingProxyType({"a": 1}), '{"a":1}'),
    (Unit.CELSIUS, '"c"'),
    ({1: (2,)}, '{"1":[2]}'),
]


@pytest.mark.parametrize(("result", "content"), RESULTS)
def test_result_is_text_or_json(result: Any, content: str) -> None:
    assert result_text(result) == content


def test_pydantic_models_are_results() -> None:
    pydantic = pytest.importorskip("pydantic")
    person = pydantic.create_model("Person", name=(str, ...), born=(date, ...))
    made = person(name="a", born=date(2026, 1, 2))
    assert result_text([made, {"b": made}]) == (
        '[{"name":"a","born":"2026-01-02"},{"b":{"name":"a","born":"2026-01-02"}}]'
    )


def test_result_that_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a str or JSON serializable, got <.*Shop"):
        result_text({"a": Shop()})
