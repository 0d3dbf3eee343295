"""Text to text in which a pattern has no match."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from ..checks import check_integer
from ..errors import GuardError
from ..rx.stream import Stream
from .inputs import text_for
from .partial_match import unfinished

__all__ = ["Guard", "guarded"]

# For each place of the text it is decided whether a match begins there, from left to
# right, as soon as that is certain whatever follows, and at the latest when as many
# characters have come as a match may have: then with those alone. A decision looks at
# no more of the text than that, wherever the text was cut and however much of it is
# there already: so the cuts do not matter, and the work for one place has a bound.
#
#     text:    o o o o o o o o o o o o o o o o
#     released ────────▶│begin             │end of what came
#                       │◀── window ──▶│
#
# `re` sees what is before `begin` (for `\b` and look-behinds), and an end of the text
# behind the window.


class Guard:
    """Releases text with its matches replaced, or up to the first one.

    `matched_at` is where in the text the match begins that ended it, or None; nothing is
    released any more when it has.
    """

    def __init__(self, pattern: re.Pattern[str], max_length: int, replacement: str | None) -> None:
        self.matched_at: int | None = None
        self._pattern = pattern
        self._unfinished, _, self._behind, ahead = unfinished(pattern)
        self._window = max_length + ahead
        self._replacement = replacement
        self._text = ""  # what is held, and before it what a match may depend on
        self._begin = 0  # of what is held
        self._forgotten = 0  # characters before all that

    @property
    def held(self) -> int:
        """Characters that are not released."""
        return len(self._text) - self._begin

    def feed(self, piece: str) -> str:
        """What is released when this has come."""
        self._text += piece
        return self._release(closed=False)

    def close(self) -> str:
        return self._release(closed=True)

    def _release(self, closed: bool) -> str:
        released: list[str] = []
        while self.held and self.matched_at is None and self._step(released, closed):
            pass
        self._forget()
        return "".join(released)

    def _step(self, released: list[str], closed: bool) -> bool:
        """Release what is certain about one window; False if nothing is."""
        text, begin = self._text, self._begin
        end = min(len(text), begin + self._window)
        found = self._unfinished.search(text, begin, end)
        assert found is not None  # at the end of the text every pattern may begin
        if found.start() > begin:
            self._begin = found.start()
            released.append(text[begin : self._begin])
            return True
        if found.lastindex is not None:
            if end - begin < self._window and not closed:
                return False
            found = self._pattern.match(text, begin, end)
        return self._decide(released, found)

    def _decide(self, released: list[str], found: re.Match[str] | None) -> bool:
        """A match begins here, or none; False if that is the end."""
        if found is None:
            released.append(self._text[self._begin])
            self._begin += 1
        elif self._replacement is None:
            self.matched_at = self._forgotten + self._begin
            return False
        else:
            released.append(self._replacement)
            self._begin = found.end()
        return True

    def _forget(self) -> None:
        kept = max(0, self._begin - self._behind)
        self._text = self._text[kept:]
        self._begin -= kept
        self._forgotten += kept


def guarded(
    pattern: str | re.Pattern[str],
    *,
    max_length: int,
    on_match: Literal["redact", "stop"] = "redact",
    replacement: str = "...",
) -> Callable[[Observable[str]], Stream[str]]:
    r"""Text into text in which a pattern has no match.

        --"call "--"555"--"-1234"--" now"-|->
        --"call "---------"..."----" now"-|->

    Args:
        pattern: A regular expression as `re` takes it. Refused with a `ValueError`,
            since it could not be right on text that is still coming: references to
            groups, conditions, atomic groups, possessive repeats, look-aheads without a
            limit, and one assertion in another. So is a pattern that matches the empty
            text.
        max_length: Characters that a match has at most. What matches for longer is
            redacted in parts of that length, and of `\b\d+\b`, which begins nowhere
            in the middle of a number, only the first is. A large one delays nothing
            that no match can begin with, so be generous.
        on_match: "redact" puts the replacement in the place of each match; "stop" ends
            the stream before the first one, with an error, and cancels the source.
        replacement: Put as it is: a backslash in it is a backslash.

    Emits: what is certain not to be in a match, as soon as it is; joined, it is
        `re.sub` on the whole text.
    Holds: text that could still become a match, which is less than `max_length`
        characters, and so many more as the pattern looks at behind its match. No
        characters are held where no match can have begun.
    Completes: what is held is then emitted, if the pattern does not match it.
    Errors: `GuardError` on a match, where that stops it. What is held when the source
        errors is not emitted: it may be the beginning of what must not be shown.

    >>> import reactivex
    >>> pieces = reactivex.of("Call 5", "55-12", "34 or 9", "11.")
    >>> for text in Stream.of(pieces).pipe(guarded(r"\d{3}-\d{4}", max_length=8)):
    ...     print(repr(text))
    'Call '
    '... or '
    '911.'
    """
    compiled = _compiled(pattern)
    check_integer("max_length", max_length)
    _check_match(compiled, max_length)
    if on_match not in ("redact", "stop"):
        raise ValueError(f'on_match must be "redact" or "stop", got {on_match!r}')
    if not isinstance(replacement, str):
        raise TypeError(f"replacement must be a str, got {type(replacement).__name__}")
    put = replacement if on_match == "redact" else None
    takes = text_for("guarded")

    def operate(source: Observable[str]) -> Stream[str]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[str], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            guard = Guard(compiled, max_length, put)
            subscription = SingleAssignmentDisposable()

            def emit(released: str) -> None:
                if released:
                    observer.on_next(released)
                if guard.matched_at is not None:
                    subscription.dispose()
                    observer.on_error(GuardError(guard.matched_at))

            def on_next(piece: object) -> None:
                if isinstance(piece, str):
                    emit(guard.feed(piece))
                else:
                    observer.on_error(takes.error_for(piece))

            def on_completed() -> None:
                emit(guard.close())
                observer.on_completed()

            subscription.disposable = stream.subscribe(
                on_next, observer.on_error, on_completed, scheduler=scheduler
            )
            return subscription

        return Stream(subscribe)

    return operate


def _compiled(pattern: object) -> re.Pattern[str]:
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if not isinstance(text, str):
        raise TypeError(f"pattern must be a str or a pattern of one, got {type(text).__name__}")
    try:
        return re.compile(pattern)  # type: ignore[call-overload, no-any-return]
    except re.error as error:
        raise ValueError(f"pattern is no regular expression: {error}") from error


def _check_match(pattern: re.Pattern[str], max_length: int) -> None:
    shortest = unfinished(pattern).shortest
    if shortest == 0:
        raise ValueError("pattern matches the empty text, which is everywhere")
    if shortest > max_length:
        raise ValueError(
            f"the shortest match of the pattern has {shortest} characters, and max_length "
            f"is {max_length}"
        )
