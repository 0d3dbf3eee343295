"""Printers of an answer as it arrives: of Markdown in a terminal, if `rich` is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from ..outcome import Outcome
from .screen import Screen

__all__ = ["Printer", "figures", "printer_for"]


class Printer(Protocol):
    """A printer of the text of one answer."""

    def write(self, piece: str, /) -> None:
        """Shows a piece of the answer that has arrived."""

    def end_line(self) -> None:
        """Ends the last line, if it has not ended."""


def printer_for(screen: Screen) -> Printer:
    """Returns a printer of Markdown if it can be rendered, and otherwise the screen itself."""
    if screen.can_style:
        try:
            printer: Printer = import_module(".markdown", __package__).MarkdownPrinter(screen)
        except ImportError:  # rich is an extra
            pass
        else:
            return printer
    return screen


def figures(outcome: Outcome, chunks: int) -> str:
    """Returns a line with the number of tokens or chunks received, and their rate."""
    first, last = outcome.seconds_to_first_token, outcome.seconds_to_last_token
    if first is None or last is None:
        return "no tokens"
    exact = outcome.usage.completion_tokens if outcome.usage else None
    amount = f"{exact} tokens" if exact is not None else f"{chunks} chunks"
    rate = (exact or chunks) / max(last, 1e-9)
    return f"{amount}, {first:.2f} s to the first, {rate:.1f} a second"
