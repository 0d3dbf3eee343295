"""Standard input, all bytes of which must be text."""

from __future__ import annotations

import sys

__all__ = ["decoding_error", "read_stdin", "refuse_undecodable_bytes"]


def read_stdin() -> str:
    """Returns all of stdin.

    Raises:
        ValueError: There is no stdin, or it is not text.
    """
    if sys.stdin is None:  # closed by the shell, as in `<&-`
        raise ValueError("there is no stdin to read the prompt from")
    refuse_undecodable_bytes()
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise decoding_error(error) from error


def refuse_undecodable_bytes() -> None:
    """Makes stdin strict, as the C locale would accept any byte."""
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="strict")


def decoding_error(error: UnicodeDecodeError) -> ValueError:
    """Returns the error of a stdin that is not text."""
    byte = error.object[error.start]
    return ValueError(f"stdin is not {error.encoding.upper()} text: it has the byte 0x{byte:02x}")
