"""Prompts that are typed or pasted in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .stdin import decoding_error, refuse_undecodable_bytes

try:
    import readline  # edits lines, and keeps them for the arrow keys
except ImportError:  # on Windows, where the terminal does both
    readline = None  # type: ignore[assignment]
if sys.platform != "win32":
    import termios

__all__ = ["ClearedLine", "hidden_keys", "prepare_prompts", "read_prompt"]


class ClearedLine(KeyboardInterrupt):
    """Ctrl-C in a prompt that had text."""


def prepare_prompts() -> None:
    """Prepares the terminal for `read_prompt`."""
    refuse_undecodable_bytes()
    if readline is not None:
        readline.set_auto_history(False)  # a prompt of several lines is one entry
        if "libedit" not in (readline.__doc__ or ""):
            readline.parse_and_bind("set enable-bracketed-paste on")


def read_prompt() -> str:
    r"""Returns a prompt that is typed or pasted; a backslash at its end continues a line.

    The prompts are kept for the arrow keys, in memory only, since they may be private.

    Raises:
        EOFError: Ctrl-D was pressed.
        KeyboardInterrupt: Ctrl-C was pressed; a `ClearedLine` if the prompt had text.
        ValueError: The prompt is not text.
    """
    prompt = ""
    try:
        prompt = input("> ")
        while prompt.endswith("\\"):
            prompt = prompt[:-1] + "\n" + input("... ")
    except KeyboardInterrupt:
        if prompt or (readline is not None and readline.get_line_buffer()):
            raise ClearedLine from None
        raise
    except UnicodeDecodeError as error:
        raise decoding_error(error) from error
    if readline is not None and prompt.strip():
        readline.add_history(prompt)
    return prompt


@contextmanager
def hidden_keys() -> Iterator[None]:
    """Hides the keys that are pressed in the block; the next prompt reads them."""
    if sys.platform == "win32":  # which shows no key before it is read
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    local_modes = before[3] & ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, [*before[:3], local_modes, *before[4:]])
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
