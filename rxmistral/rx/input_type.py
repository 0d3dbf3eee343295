"""The type of items that an operator accepts, and the error for any other item.

A missing stage shows only when items flow: `chat.stream(...).pipe(sentences())` feeds
completions to an operator of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["InputType"]


class InputType(NamedTuple):
    """The items that an operator accepts."""

    operator: str
    kind: type
    noun: str  # for the items, in error messages
    remedies: Mapping[str, str]  # by the name of a type that is not accepted

    def error_for(self, item: object) -> TypeError:
        name = type(item).__name__
        article = "an" if name[0] in "aeiouAEIO" else "a"
        problem = f"{self.operator}() takes {self.noun}, got {article} {name}"
        remedy = self.remedies.get(name)
        return TypeError(f"{problem}: {remedy}" if remedy else problem)
