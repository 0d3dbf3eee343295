"""Screen, which writes answers to stdout, and lines for stderr; no text controls the terminal."""

from __future__ import annotations

import os
import sys
from typing import TextIO

__all__ = [
    "Screen",
    "UnwritableError",
    "discard",
    "is_terminal",
    "print_error",
    "print_to_stderr",
    "replace_control_characters",
]

# Replaces the characters that control a terminal, such as ESC, BEL and backspace, by their
# pictures, and removes carriage returns, which would let an answer overwrite earlier output.
# Each character is replaced by itself, so a sequence may be split between two tokens.
_CONTROL_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    ord("\r"): None,
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),  # C1
}


class UnwritableError(Exception):
    """An error that stdout cannot be written to; its cause is the error of stdout."""


class Screen:
    """Standard output, with the knowledge whether its last line has ended."""

    def __init__(self) -> None:
        self._in_line = False
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # such as an emoji that the terminal cannot show

    @property
    def can_style(self) -> bool:
        """Whether stdout is a terminal that styles text and moves its cursor."""
        default = "xterm" if "WT_SESSION" in os.environ else "dumb"  # of Windows Terminal
        is_dumb = (os.environ.get("TERM") or default).lower() in ("dumb", "unknown")
        return is_terminal(sys.stdout) and not is_dumb

    def write(self, piece: str) -> None:
        self.write_escapes(_displayed(piece, sys.stdout))

    def write_dim(self, piece: str) -> None:
        piece = _displayed(piece, sys.stdout)
        # Each piece ends its style, so that an interrupted answer leaves the terminal as it was.
        self.write_escapes(f"\x1b[2m{piece}\x1b[22m" if self.can_style else piece)
        self._in_line = not piece.endswith("\n")

    def write_escapes(self, piece: str) -> None:
        """Writes a text as it is; the caller answers for its escape sequences."""
        self._in_line = not piece.endswith("\n")  # first, as Ctrl-C may interrupt the write
        try:
            sys.stdout.write(piece)
            sys.stdout.flush()
        except OSError as error:
            raise UnwritableError(error.strerror) from error

    def end_line(self) -> None:
        if self._in_line:
            self.write("\n")


def print_error(error: Exception) -> None:
    """Prints an error as one line."""
    print_to_stderr(f"rxmistral: {' '.join(str(error).split())}")


def print_to_stderr(line: str) -> None:
    """Prints a line, if there is a stderr that can be written to."""
    if sys.stderr is None:
        return
    try:
        print(_displayed(line, sys.stderr), file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def replace_control_characters(text: str) -> str:
    """Returns a text in which pictures replace the characters that control a terminal."""
    return text.translate(_CONTROL_PICTURES)


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def discard(stream: TextIO) -> None:
    """Redirects a stream to the null device after an error.

    Otherwise its buffer would fail again when the interpreter exits.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _displayed(text: str, stream: TextIO) -> str:
    return replace_control_characters(text) if is_terminal(stream) else text
