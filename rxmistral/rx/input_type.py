"""What an operator takes, and what is said of an item that it does not take.

A pipe is put together at run time, so a stage that is missing shows in the items only:
`chat.stream(...).pipe(sentences())` feeds completions to an operator of text. The error
names the operator, the type, and the stage that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["InputType"]


class InputType(NamedTuple):
    """The items that an operator takes.

    Attributes:
        operator: The operator's name.
        kind: The type of the items.
        noun: What they are called.
        remedies: What to do about an item of another type, by the name of that.
    """

    operator: str
    kind: type
    noun: str
    remedies: Mapping[str, str]

    def error_for(self, item: object) -> TypeError:
        """The error for an item that is not of this type."""
        name = type(item).__name__
        article = "an" if name[0] in "aeiouAEIO" else "a"
        problem = f"{self.operator}() takes {self.noun}, got {article} {name}"
        remedy = self.remedies.get(name)
        return TypeError(f"{problem}: {remedy}" if remedy else problem)
