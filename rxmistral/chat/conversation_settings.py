"""The arguments of a conversation, and its form in a file or a database."""

from __future__ import annotations

from typing import Generic, Literal, TypeAlias, TypeVar, get_args

from msgspec import Struct

from ..checks import check_integer
from .settings import StreamOptions
from .tool_runner import Approve
from .trimming import Trim

__all__ = ["ConversationOptions", "Rules", "RunDefaults", "Saved", "WhenBusy", "check_texts"]

M = TypeVar("M")

WhenBusy: TypeAlias = Literal["switch", "queue", "refuse"]


class RunDefaults(StreamOptions, total=False):
    """The arguments of `chat.run` for each answer of a conversation."""

    max_concurrency: int
    approve: Approve | None


class ConversationOptions(RunDefaults, total=False):
    """The arguments of `Conversation` that `from_json` may replace."""

    system: str | None
    when_busy: WhenBusy
    max_rounds: int
    max_messages: int | None
    trim: Trim | None
    interrupted: str
    interrupted_note: str | None
    id: str | None


class Rules(Struct, frozen=True):
    """The settings of a conversation that JSON can represent."""

    when_busy: WhenBusy
    max_rounds: int
    max_messages: int | None
    interrupted: str
    interrupted_note: str | None

    def check(self) -> None:
        if self.when_busy not in get_args(WhenBusy):
            raise ValueError(
                f'when_busy must be "switch", "queue" or "refuse", got {self.when_busy!r}'
            )
        check_integer("max_rounds", self.max_rounds)
        if self.max_messages is not None:
            check_integer("max_messages", self.max_messages)
        check_texts(interrupted=self.interrupted, interrupted_note=self.interrupted_note)
        if not (self.interrupted or "").strip():
            raise ValueError("interrupted must be a text: an assistant message cannot be empty")


def check_texts(**texts: object) -> None:
    """Raises TypeError for an argument that is neither a str nor None."""
    for name, value in texts.items():
        if not (value is None or isinstance(value, str)):
            raise TypeError(f"{name} must be a str, got {type(value).__name__}")


class Saved(Struct, Generic[M]):
    """A conversation in the form in which `to_json` writes it."""

    id: str
    messages: list[M]
    is_cut: bool
    rules: Rules
