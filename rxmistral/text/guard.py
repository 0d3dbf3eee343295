"""Text to text in which a pattern has no match."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from reactivex import Observable

from ..checks import check_integer
from ..errors import GuardError
from ..rx.fluent import returning
from ..rx.state_machine import StateMachine, machine_operator
from .inputs import text_for
from .partial_match import partial_pattern
from .text_stream import TextStream

__all__ = ["Guard", "guarded"]

# Strategy: at each place of the text, from left to right, decide whether a match begins
# there: as soon as the answer is certain whatever follows, and at the latest when as many
# characters are buffered as a match may have. A decision never reads more of the text than
# that. So it does not matter how the text was cut, and the work per place is bounded.
#
#     text:    o o o o o o o o o o o o o o o o
#     released ────────▶│begin             │end of the buffer
#                       │◀── window ──▶│
#
# `re` sees the text before `begin` (for `\b` and look-behinds), and the end of the window
# as the end of the text.


class Guard(StateMachine[str, str]):
    """Releases text with its matches replaced; without a replacement, up to the first match."""

    def __init__(self, pattern: re.Pattern[str], max_length: int, replacement: str | None) -> None:
        self._pattern = pattern
        self._partial, _, self._behind, ahead = partial_pattern(pattern)
        self._window = max_length + ahead
        self._replacement = replacement
        self._text = ""  # the buffered text, and before it what a match may depend on
        self._begin = 0  # of the buffered text
        self._dropped = 0  # characters of the answer before `_text`

    @property
    def buffered(self) -> int:
        """Number of characters that are not released."""
        return len(self._text) - self._begin

    def feed(self, text: str) -> list[str]:
        self._text += text
        return self._release(closed=False)

    def close(self) -> list[str]:
        return self._release(closed=True)

    def close_after_error(self) -> tuple[()]:
        return ()  # the buffered text may be the beginning of a match

    def _release(self, closed: bool) -> list[str]:
        released: list[str] = []
        while self.buffered and self.error is None and self._decide(released, closed):
            pass
        dropped = max(0, self._begin - self._behind)
        self._text = self._text[dropped:]
        self._begin -= dropped
        self._dropped += dropped
        text = "".join(released)
        return [text] if text else []

    def _decide(self, released: list[str], closed: bool) -> bool:
        """Releases what is certain about one window; returns False if nothing is."""
        text, begin = self._text, self._begin
        end = min(len(text), begin + self._window)
        found = self._partial.search(text, begin, end)
        assert found is not None  # at the end of the text every pattern may begin
        if found.start() > begin:
            self._begin = found.start()
            released.append(text[begin : self._begin])
            return True
        if found.lastindex is not None:
            if end - begin < self._window and not closed:
                return False
            found = self._pattern.match(text, begin, end)
        if found is None:
            released.append(text[begin])
            self._begin += 1
        elif self._replacement is None:
            self.error = GuardError(self._dropped + begin)
        else:
            released.append(self._replacement)
            self._begin = found.end()
        return True


def guarded(
    pattern: str | re.Pattern[str],
    *,
    max_length: int,
    on_match: Literal["redact", "stop"] = "redact",
    replacement: str = "...",
) -> Callable[[Observable[str]], TextStream]:
    r"""Text into text in which a pattern has no match.

        --"call "--"555"--"-1234"--" now"-|->
        --"call "---------"..."----" now"-|->

    Args:
        pattern: A regular expression in the syntax of `re`. References to groups,
            conditions, atomic groups, possessive repeats, unlimited look-aheads, and
            assertions inside of look-arounds raise `ValueError`: they cannot be decided
            on text that is still arriving. So does a pattern that matches the empty text.
        max_length: The most characters that a match can have. A longer match is redacted
            in parts of that length; of `\b\d+\b`, which cannot begin in the middle of a
            number, only the first part is. Be generous: a large value does not delay
            text that cannot begin a match.
        on_match: "redact" emits the replacement in place of each match; "stop" ends the
            stream with an error before the first match, and cancels the source.
        replacement: Emitted literally: a backslash in it is a backslash.

    Emits: text as soon as it is certain not to be in a match; joined, it is
        `re.sub` on the whole text.
    Holds: text that could still become a match: less than `max_length` characters, plus
        the characters after a match that the pattern depends on. Text in which no match can have
        begun is not held.
    Completes: after the held text, if the pattern does not match it.
    Errors: `GuardError` on a match if `on_match` is "stop". When the source fails, held
        text is not emitted: it may be the beginning of a match.

    >>> import reactivex
    >>> pieces = reactivex.of("Call 5", "55-12", "34 or 9", "11.")
    >>> for text in TextStream.of(pieces).pipe(guarded(r"\d{3}-\d{4}", max_length=8)):
    ...     print(repr(text))
    'Call '
    '... or '
    '911.'
    """
    compiled = _compile(pattern)
    check_integer("max_length", max_length)
    _check_shortest_match(compiled, max_length)
    if on_match not in ("redact", "stop"):
        raise ValueError(f'on_match must be "redact" or "stop", got {on_match!r}')
    if not isinstance(replacement, str):
        raise TypeError(f"replacement must be a str, got {type(replacement).__name__}")
    emitted = replacement if on_match == "redact" else None
    return returning(
        TextStream,
        machine_operator(lambda: Guard(compiled, max_length, emitted), text_for("guarded")),
    )


def _compile(pattern: object) -> re.Pattern[str]:
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if not isinstance(text, str):
        raise TypeError(f"pattern must be a str or a pattern of one, got {type(text).__name__}")
    try:
        return re.compile(pattern)  # type: ignore[call-overload, no-any-return]
    except re.error as error:
        raise ValueError(f"pattern is not a regular expression: {error}") from error


def _check_shortest_match(pattern: re.Pattern[str], max_length: int) -> None:
    shortest = partial_pattern(pattern).shortest
    if shortest == 0:
        raise ValueError("pattern matches the empty text, which is everywhere")
    if shortest > max_length:
        raise ValueError(
            f"the shortest match of the pattern has {shortest} characters, and max_length "
            f"is {max_length}"
        )
