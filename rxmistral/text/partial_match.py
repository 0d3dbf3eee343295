r"""A regular expression to one that finds the beginnings of its matches, too.

`re` cannot say that a text could become a match if more of it came. A regular expression
can: where each of its characters may instead be the end of the text,

    \d{4}-\w+    becomes    (?:\d|(\Z)){4}(?:-|(\Z))(?:\w|(\Z))+

it also matches what a match can begin with. `re` tries the ways to match in the order of
the expression and takes the first that succeeds, and the new one has the same ways in
the same order, with more where the text ends. So its first success tells all:

- none: nothing that could follow would make a match here;
- one in which no `(\Z)` took part: this is the match, whatever follows;
- one in which a `(\Z)` took part: what follows will tell.

What a zero-width assertion says at the end of the text depends on what follows, too.

For the rewriting the expression has to be read. What is read here is all of `re`'s
syntax but the few things for which the above is not true, or not enough: they are
refused, by name.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

__all__ = ["Unfinished", "unfinished"]


class Unfinished(NamedTuple):
    """What is known of a pattern.

    Attributes:
        pattern: Finds matches and their beginnings: a match of it is certain where
            `lastindex` is None.
        shortest: Characters in the shortest match.
        behind: Characters before a match that it may depend on.
        ahead: Characters behind a match that it may depend on.
    """

    pattern: re.Pattern[str]
    shortest: int
    behind: int
    ahead: int


def unfinished(pattern: re.Pattern[str]) -> Unfinished:
    """Read a pattern.

    Raises:
        ValueError: It has in it what is not supported.
    """
    reader = _Reader(pattern)
    whole = reader.read_whole()
    flags = pattern.flags & ~(re.VERBOSE | re.DEBUG)
    return Unfinished(re.compile(whole.partial, flags), whole.least, reader.behind, whole.ahead)


class _Part(NamedTuple):
    """A part of an expression."""

    partial: str  # as above
    plain: str  # as it was, without groups that capture
    least: int  # characters that it takes
    most: float
    ahead: int  # characters behind them that it may look at


_NOTHING = _Part("", "", 0, 0, 0)

_TOUCH = r"(\Z)"

# One token of an expression. What is a character by itself comes last.
_TOKEN = re.compile(
    r"""(?P<comment>\(\?\#[^)]*\))
      | (?P<flags>\(\?[aiLmsux]+\))
      | (?P<refused>\(\?P=|\(\?\(|\(\?>|\\[1-9])
      | (?P<look>\(\?<?[=!])
      | (?P<open>\(\?P<\w+>|\((?!\?)|\(\?[aiLmsux]*(?:-[imsx]+)?:)
      | (?P<close>\))
      | (?P<or>\|)
      | (?P<repeat>(?:[*+?]|\{(?!\})\d*(?:,\d*)?\})[?+]?)
      | (?P<assertion>[$^]|\\[AbBzZ])
      | (?P<character>
            \[\^?\]?(?:\\.|[^\]\\])*\]
          | \\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|0[0-7]{0,2}|.)
          | .)
    """,
    re.VERBOSE | re.DOTALL,
)
_SKIPPED_IN_VERBOSE = re.compile(r"(?:\s|\#[^\n]*)+")

_NAMES = {
    "(?P=": "a reference to a group",
    "(?(": "a condition on a group",
    "(?>": "an atomic group",
    "\\": "a reference to a group",
}

# How far behind its place an assertion looks. `$` is also true before a line feed that
# ends the text.
_REACH = {"$": 2, r"\b": 1, r"\B": 1, r"\Z": 1, r"\z": 1, "^": 0, r"\A": 0}


class _Reader:
    """Reads an expression that `re` has compiled, so that it is known to be well-formed."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._text = pattern.pattern
        self._verbose = bool(pattern.flags & re.VERBOSE)
        self._at = 0
        self._token = ""
        self._kind: str | None = None
        self._looking = ""  # the kind of the look-around that is being read
        self.behind = 1  # for the assertions that look at one character
        self._advance()

    def read_whole(self) -> _Part:
        return self._read_alternatives()

    def _advance(self) -> None:
        if self._verbose and (skipped := _SKIPPED_IN_VERBOSE.match(self._text, self._at)):
            self._at = skipped.end()
        found = _TOKEN.match(self._text, self._at)
        self._kind = found and found.lastgroup
        self._token = found[0] if found else ""
        self._at += len(self._token)
        if self._kind in ("comment", "flags"):
            self._advance()

    def _read_alternatives(self) -> _Part:
        parts = [self._read_sequence()]
        while self._kind == "or":
            self._advance()
            parts.append(self._read_sequence())
        return _Part(
            "|".join(part.partial for part in parts),
            "|".join(part.plain for part in parts),
            min(part.least for part in parts),
            max(part.most for part in parts),
            max(part.ahead for part in parts),
        )

    def _read_sequence(self) -> _Part:
        sequence = _NOTHING
        while self._kind not in (None, "or", "close"):
            part = self._read_repeated()
            sequence = _Part(
                sequence.partial + part.partial,
                sequence.plain + part.plain,
                sequence.least + part.least,
                sequence.most + part.most,
                max(sequence.ahead - part.least, part.ahead),
            )
        return sequence

    def _read_repeated(self) -> _Part:
        part = self._read_one()
        if self._kind != "repeat":
            return part
        repeat = self._token
        if repeat[1:].endswith("+"):
            raise _refusal("a possessive repeat", repeat)
        self._advance()
        least, most = _times(repeat)
        return _Part(
            part.partial + repeat,
            part.plain + repeat,
            part.least * least,
            part.most * most if part.most else 0,
            part.ahead,
        )

    def _read_one(self) -> _Part:
        token, kind = self._token, self._kind
        if kind == "refused":
            raise _refusal(_NAMES[token if token in _NAMES else token[0]], token)
        self._advance()
        if kind == "open":
            return self._read_group(token)
        if kind == "look":
            return self._read_look(token)
        if kind == "assertion":
            return self._read_assertion(token)
        return _Part(f"(?:{token}|{_TOUCH})", token, 1, 1, 0)

    def _read_group(self, opening: str) -> _Part:
        flags = opening if opening.endswith(":") else "(?:"
        if "x" in flags:
            raise _refusal("a change of the flag x inside of the pattern", opening)
        part = self._read_alternatives()
        self._advance()
        return part._replace(partial=f"{flags}{part.partial})", plain=f"{flags}{part.plain})")

    def _read_assertion(self, token: str) -> _Part:
        reach = _REACH[token]
        if self._looking == "(?!" or (self._looking[:3] == "(?<" and reach > 1):
            raise _refusal("an assertion in a look-around", token)
        if token == "$":
            return _Part(rf"(?:{_TOUCH}|(?=\n{_TOUCH})|$)", token, 0, 0, reach)
        return _Part(f"(?:{_TOUCH}|{token})", token, 0, 0, reach)

    def _read_look(self, kind: str) -> _Part:
        if self._looking:
            raise _refusal("a look-around in a look-around", kind)
        self._looking = kind
        part = self._read_alternatives()
        self._looking = ""
        self._advance()
        plain = f"{kind}{part.plain})"
        if "<" in kind:
            self.behind += int(part.most)
            return _Part(f"(?:{_TOUCH}|{plain})", plain, 0, 0, part.ahead)
        return self._read_ahead(kind, part, plain)

    def _read_ahead(self, kind: str, part: _Part, plain: str) -> _Part:
        if part.most == math.inf:
            raise _refusal("a look-ahead without a limit", kind)
        partial = f"(?={part.partial})"
        if kind == "(?!":
            # It is there: no match. It is not and cannot come: go on. Else: not known yet.
            partial = f"(?:{plain}(?:(?!{part.partial})|()))"
        return _Part(partial, plain, 0, 0, int(part.most) + part.ahead)


def _times(repeat: str) -> tuple[int, float]:
    match repeat[0]:
        case "*":
            return 0, math.inf
        case "+":
            return 1, math.inf
        case "?":
            return 0, 1
    least, comma, most = repeat.rstrip("?")[1:-1].partition(",")
    return int(least or 0), float(most or math.inf) if comma else int(least)


def _refusal(name: str, token: str) -> ValueError:
    return ValueError(
        f"the pattern has {name} in it, {token!r}: what it may match is not known before "
        "the text has ended"
    )
