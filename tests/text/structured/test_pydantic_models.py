"""Pydantic models as types of an answer: whole, growing, as items, and as a response format."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import msgspec
import pytest
import reactivex
from msgspec import UNSET, Struct

from rxmistral.chat.request import encode_body
from rxmistral.errors import InvalidAnswerError
from rxmistral.models import FunctionCall
from rxmistral.text.structured.operators import items, parsed, partials

pydantic = pytest.importorskip("pydantic")


class Ingredient(pydantic.BaseModel):  # type: ignore[misc,name-defined]
    name: str
    grams: int = 3


class Recipe(pydantic.BaseModel):  # type: ignore[misc,name-defined]
    """A recipe."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True)

    title: str
    minutes: int = pydantic.Field(gt=0, description="How long it takes.")
    url: pydantic.HttpUrl | None = None  # type: ignore[name-defined]
    made_on: date | None = pydantic.Field(None, alias="madeOn")
    ingredients: list[Ingredient] = pydantic.Field(default_factory=list)
    cover: Ingredient | None = None
    mood: int | Ingredient | str = 0  # msgspec has no such union

    @pydantic.field_validator("title")  # type: ignore[untyped-decorator]
    @classmethod
    def in_capitals(cls, title: str) -> str:
        if title == "bad":
            raise ValueError("a bad title")
        return title.upper()


class Tree(pydantic.BaseModel):  # type: ignore[misc,name-defined]
    children: list[Tree] = pydantic.Field(default_factory=list)


class Struct_(Struct):  # noqa: N801  # a Struct around models
    best: Ingredient
    others: list[Ingredient] = []


@dataclass
class Shelf:
    jars: dict[str, Ingredient]


Numbers = pydantic.RootModel[list[int]]
Either = pydantic.RootModel[Ingredient | Tree]

TEXT = (
    '{"title": "Cr\\u00eapes", "minutes": 20, "url": "http://a.b/", "madeOn": "2026-01-02", '
    '"ingredients": [{"name": "flour"}, {"name": "milk", "grams": 5}], '
    '"cover": {"name": "cup"}, "mood": {"name": "joy"}}'
)


def through(operator: Any, deltas: Iterable[str]) -> list[Any]:
    """The emitted items, and the error last."""
    got: list[Any] = []
    reactivex.from_iterable(deltas).pipe(operator).subscribe(got.append, got.append)
    return got


# --- values ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_model_is_validated_when_whole(size: int) -> None:
    deltas = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    whole = Recipe.model_validate_json(TEXT)
    assert whole.title == "CRÊPES"
    assert through(parsed(Recipe), ["Here: ", *deltas]) == [whole]
    assert through(partials(Recipe), ["Here: ", *deltas])[-1] == whole


def test_model_grows_field_by_field() -> None:
    got = through(partials(Recipe), list(TEXT))
    assert {type(each) for each in got} == {Recipe}
    assert [each.title for each in got[:5]] == [UNSET, "", "C", "Cr", "Crê"]
    assert (got[0].minutes, got[0].url, got[0].ingredients) == (UNSET, None, [])
    grown = got[-2]
    assert grown.title == "Crêpes"
    assert str(grown.url) == "http://a.b/"
    assert grown.made_on == date(2026, 1, 2)
    assert grown.ingredients == [Ingredient(name="flour"), Ingredient(name="milk", grams=5)]
    assert grown.mood == Ingredient(name="joy")
    covers = [each.cover.name for each in got if each.cover is not None]
    assert list(dict.fromkeys(covers)) == [UNSET, "", "c", "cu", "cup"]


def test_growing_model_can_be_dumped_without_unset_fields() -> None:
    got = through(partials(Recipe), ['{"title": "a', '", "minutes": 1'])
    assert got[0].model_dump(exclude_unset=True) == {"title": "a"}
    assert json.loads(got[0].model_dump_json(exclude_unset=True)) == {"title": "a"}


def test_emitted_model_does_not_change() -> None:
    got = through(partials(Recipe, growing_items=True), list(TEXT))
    firsts = [each for each in got if each.title == "Cr"]
    assert [each.model_fields_set for each in firsts] == [{"title"}]
    sizes = [len(each.ingredients) for each in got]
    assert sizes == sorted(sizes)


def test_model_within_other_types_is_validated() -> None:
    text = '{"best": {"name": "a"}, "others": [{"name": "b", "grams": 1}]}'
    whole = Struct_(Ingredient(name="a"), [Ingredient(name="b", grams=1)])
    assert through(parsed(Struct_), [text]) == [whole]
    assert through(partials(Struct_), list(text))[-1] == whole
    assert through(parsed(Shelf), ['{"jars": {"x": {"name": "a"}}}']) == [
        Shelf({"x": Ingredient(name="a")})
    ]
    assert through(parsed(list[Ingredient]), ['[{"name": "a"}]']) == [[Ingredient(name="a")]]


def test_models_are_items() -> None:
    got = through(items(Ingredient), list('Here: [{"name": "a"}, {"name": "b", "grams": 1}]'))
    assert got == [Ingredient(name="a"), Ingredient(name="b", grams=1)]


def test_root_model_appears_when_whole() -> None:
    assert through(partials(Numbers), list("Numbers: [1, 2]")) == [Numbers([1, 2])]
    assert through(parsed(Either), ['{"children": []}']) == [Either(Tree())]


def test_raw_control_characters_in_models_are_accepted() -> None:
    assert through(parsed(Ingredient), ['{"name": "a\n\tb"}']) == [Ingredient(name="a\n\tb")]


INVALID = [
    (Recipe, '{"minutes": 1}', "Field required - at `$.title`"),
    (Recipe, '{"title": "a", "minutes": 0}', "Input should be greater than 0 - at `$.minutes`"),
    (Recipe, '{"title": "bad", "minutes": 1}', "Value error, a bad title - at `$.title`"),
    (Recipe, '{"title": "a", "minutes": 1, "ingredients": [{}]}', " - at `$.ingredients[0].name`"),
    (Recipe, '{"title": "a"', "Input data was truncated"),
    (Struct_, '{"best": {"name": 1}}', "Input should be a valid string - at `$.best.name`"),
    (list[Ingredient], '[{"name": "a"}, {}]', "Field required - at `$[1].name`"),
]


@pytest.mark.parametrize("operator", [parsed, partials])
@pytest.mark.parametrize(("type", "text", "reason"), INVALID)
def test_invalid_model_is_an_error_with_its_path(
    operator: Any, type: Any, text: str, reason: str
) -> None:
    *_, error = through(operator(type), [text[:5], text[5:]])
    assert isinstance(error, InvalidAnswerError)
    assert error.reason.endswith(reason)
    assert error.text == text
    assert error.__cause__ is not None


def test_invalid_item_is_an_error_with_its_path() -> None:
    first, error = through(items(Ingredient), ['[{"name": "a"}, {"name": 1}]'])
    assert first == Ingredient(name="a")
    assert error.reason == "Input should be a valid string - at `$[1].name`"


def test_arguments_of_a_call_may_be_a_model() -> None:
    for arguments in ('{"name": "a"}', {"name": "a"}):
        assert FunctionCall(arguments=arguments).arguments_as(Ingredient) == Ingredient(name="a")
    with pytest.raises(InvalidAnswerError, match=r"valid string - at `\$\.best\.name`"):
        FunctionCall(arguments={"best": {"name": 1}}).arguments_as(Struct_)


# --- what is refused at the call -----------------------------------------------------


@pytest.mark.parametrize("operator", [parsed, partials, items])
@pytest.mark.parametrize("type", [Ingredient | Tree, Ingredient | str, list[Ingredient | Tree]])
def test_union_of_models_raises_at_the_call(operator: Any, type: Any) -> None:
    with pytest.raises(TypeError, match="expected a type that msgspec decodes"):
        operator(type)


@pytest.mark.parametrize("operator", [parsed, partials, items])
def test_pydantic_dataclass_raises_at_the_call(operator: Any) -> None:
    @pydantic.dataclasses.dataclass
    class Checked:
        number: int = pydantic.Field(gt=0)

    with pytest.raises(
        TypeError, match=r"validation of the pydantic dataclass .* would be omitted"
    ):
        operator(list[Checked])


@pytest.mark.parametrize("operator", [parsed, partials, items])
def test_model_that_is_not_defined_raises_at_the_call(operator: Any) -> None:
    class Open(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        field: Missing  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match=r"Open'> is not fully defined: name 'Missing' is not def"):
        operator(dict[str, Open])


# --- response formats ------------------------------------------------------------


def sent_format(type: Any) -> dict[str, Any]:
    body = encode_body("m", [{"role": "user", "content": "Hi"}], {"response_format": type}, None)
    json_schema: dict[str, Any] = json.loads(body)["response_format"]["json_schema"]
    return json_schema


def test_model_as_response_format_is_sent_as_its_schema() -> None:
    sent = sent_format(Recipe)
    assert (sent["name"], sent["strict"]) == ("Recipe", True)
    schema = sent["schema"]
    assert (schema["type"], schema["description"]) == ("object", "A recipe.")
    assert schema["required"] == ["title", "minutes"]
    assert schema["properties"]["minutes"]["description"] == "How long it takes."
    assert "madeOn" in schema["properties"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"].keys() == {"Ingredient"}
    assert schema["$defs"]["Ingredient"]["additionalProperties"] is False


@pytest.mark.parametrize(
    "type", [Recipe, Tree, Struct_, Shelf, Either, list[Ingredient], dict[str, Tree]]
)
def test_schema_of_models_has_an_object_at_its_top(type: Any) -> None:
    schema = sent_format(type)["schema"]
    assert schema["type"] == "object"
    text = json.dumps(schema)
    for name in ("Recipe", "Tree", "Ingredient", "Struct_", "Shelf"):
        assert (f'"#/$defs/{name}"' in text) == (name in schema.get("$defs", {}))


def test_models_of_one_name_have_no_common_schema() -> None:
    other = pydantic.create_model("Struct_", name=(str, ...))

    both = msgspec.defstruct("Both", [("a", Struct_), ("b", other)])
    with pytest.raises(TypeError, match="two types are named 'Struct_': rename one of them"):
        sent_format(both)


def test_field_without_a_schema_raises_at_the_call() -> None:
    called = pydantic.create_model("Called", function=(Callable[[int], int], ...))
    with pytest.raises(
        TypeError, match=r"response_format must be .* \(Cannot generate a JsonSchema"
    ):
        sent_format(called)


@pytest.mark.parametrize("type", [Numbers, Ingredient | None, pydantic.RootModel[Literal["a"]]])
def test_other_types_of_models_have_no_response_format(type: Any) -> None:
    with pytest.raises(TypeError, match="some are not; make it a field of a Struct"):
        sent_format(type)


def test_pydantic_is_never_imported_by_the_library() -> None:
    code = (
        "import sys, rxmistral; from rxmistral.chat.tools import result_text\n"
        "rxmistral.parsed(dict[str, int]); rxmistral.tool(lambda a: a, name='a'); result_text([])\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
