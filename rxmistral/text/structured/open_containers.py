"""Arrays and objects of a JSON text that are not closed yet."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from .schema import ObjectSchema, Schema

__all__ = ["OpenArray", "OpenObject"]

_IGNORED = Schema()


class OpenObject:
    """An object that is not closed yet.

    Attributes:
        value: The object so far.
        is_unshared: Whether the value is in no snapshot yet, so that it may be changed
            rather than copied.
        schema: The schema of the next value.
        key: The key of the next value.
    """

    closer = "}"

    def __init__(self, schema: ObjectSchema) -> None:
        self.value = schema.new()
        self.is_unshared = True
        self.schema = _IGNORED
        self.key = ""
        self._object_schema = schema
        self._name = ""

    def enter(self, key: str) -> None:
        """Notes the key, which determines the schema of the next value."""
        self.key = key
        self._name, self.schema = self._object_schema.field(key) or ("", _IGNORED)

    def put(self, item: Any) -> bool:
        """Adds a value; returns whether it differs from the default."""
        old = self._object_schema.get(self.value, self._name)
        self.replace(item)
        return old is UNSET or bool(old != item)

    def replace(self, item: Any) -> None:
        if not self.is_unshared:
            self.value, self.is_unshared = self._object_schema.copy(self.value), True
        self._object_schema.set(self.value, self._name, item)

    def size(self) -> int:
        return self._object_schema.size(self.value)

    def advance(self) -> None:
        pass

    def finish(self) -> Any:
        return self._object_schema.finish(self.value)


class OpenArray:
    """An array that is not closed yet; for the attributes see `OpenObject`."""

    closer = "]"

    def __init__(self, value: list[Any], schema: Schema) -> None:
        self.value = value
        self.is_unshared = True
        self.schema = schema
        self._has_current = False  # whether the last item is the one that is being parsed

    def put(self, item: Any) -> bool:
        """Adds or replaces the current item; returns whether the array has changed."""
        changed = not self._has_current or bool(self.value[-1] != item)
        self.replace(item)
        return changed

    def replace(self, item: Any) -> None:
        if not self.is_unshared:
            self.value, self.is_unshared = self.value.copy(), True
        if self._has_current:
            self.value[-1] = item
        else:
            self.value.append(item)
            self._has_current = True

    def size(self) -> int:
        return len(self.value)

    def advance(self) -> None:
        self._has_current = False

    def finish(self) -> list[Any]:
        return self.value
