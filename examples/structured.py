"""Show a recipe while it is written: the answer is JSON, the program receives a Recipe."""

from msgspec import Struct

from rxmistral import Mistral, UserMessage


class Ingredient(Struct):
    name: str
    grams: int


class Recipe(Struct):
    title: str
    ingredients: list[Ingredient]
    vegan: bool


with Mistral() as client:
    answer = client.chat.stream(
        model="mistral-small-latest",
        messages=[UserMessage(content="Give me a recipe for crêpes.")],
        response_format=Recipe,
    )
    for recipe in answer.text().partials(Recipe):
        # A field that has not arrived is falsy.
        names = [each.name for each in recipe.ingredients or []]
        print(recipe.title or "...", names)
