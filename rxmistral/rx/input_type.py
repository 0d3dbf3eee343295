"""The type of items that an operator accepts, and the error for any other item.

A pipe is put together at run time, so a missing stage shows only when items flow:
`chat.stream(...).pipe(sentences())` feeds completions to an operator of text. The error
names the operator, the type that it got, and the stage that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["InputType"]


class InputType(NamedTuple):
    """The items that an operator accepts.

    Attributes:
        operator: The name of the operator.
        kind: The type of the items.
        noun: The word for the items in error messages.
        remedies: What to do about an item of another type, by the name of that type.
    """

    operator: str
    kind: type
    noun: str
    remedies: Mapping[str, str]

    def error_for(self, item: object) -> TypeError:
        """Returns the error for an item that is not of this type."""
        name = type(item).__name__
        article = "an" if name[0] in "aeiouAEIO" else "a"
        problem = f"{self.operator}() takes {self.noun}, got {article} {name}"
        remedy = self.remedies.get(name)
        return TypeError(f"{problem}: {remedy}" if remedy else problem)
