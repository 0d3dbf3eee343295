r"""From a regular expression to one that also matches the beginnings of its matches.

`re` cannot report that a text could become a match if more of it arrived. A regular
expression can: allow the end of the text in place of each of its characters, so that

    \d{4}-\w+    becomes    (?:\d|(\Z)){4}(?:-|(\Z))(?:\w|(\Z))+

which also matches whatever a match can begin with. `re` tries the alternatives in the
order of the expression and takes the first that succeeds. The new expression has the same
alternatives in the same order, and more of them at the end of the text. So its first
success decides:

- no match: nothing that could follow would make a match here;
- a match in which no `(\Z)` took part: this is the match, whatever follows;
- a match in which a `(\Z)` took part: it depends on the text that follows.

The result of a zero-width assertion at the end of the text depends on that, too. The parser
accepts all of `re`'s syntax except the few constructs for which these rules do not hold.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

__all__ = ["PartialPattern", "partial_pattern"]


class PartialPattern(NamedTuple):
    """A pattern that also matches the beginnings of matches, and facts about it."""

    pattern: re.Pattern[str]  # a match is certain if its `lastindex` is None
    shortest: int  # characters in the shortest match
    behind: int  # characters before a match that it may depend on
    ahead: int  # characters after a match that it may depend on


def partial_pattern(pattern: re.Pattern[str]) -> PartialPattern:
    """Raises `ValueError` if the pattern contains a construct that is not supported."""
    parser = _Parser(pattern)
    whole = parser.parse()
    flags = pattern.flags & ~(re.VERBOSE | re.DEBUG)
    return PartialPattern(
        re.compile(whole.partial, flags), whole.shortest, parser.behind, whole.ahead
    )


class _Node(NamedTuple):
    partial: str  # rewritten to match beginnings, too
    plain: str  # not rewritten, but without capturing groups
    shortest: int  # characters that it matches
    longest: float
    ahead: int  # characters after those that it may depend on


_EMPTY = _Node("", "", 0, 0, 0)

_END_OF_TEXT = r"(\Z)"

# One token of an expression. A single character is the last alternative.
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

_REFUSED = {
    "(?P=": "a reference to a group",
    "(?(": "a condition on a group",
    "(?>": "an atomic group",
    "\\": "a reference to a group",
}

# Characters after its position that an assertion depends on. `$` is also true before a
# line feed that ends the text.
_REACH = {"$": 2, r"\b": 1, r"\B": 1, r"\Z": 1, r"\z": 1, "^": 0, r"\A": 0}


class _Parser:
    """A parser of expressions that `re` has compiled, which are therefore well-formed."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._text = pattern.pattern
        self._verbose = bool(pattern.flags & re.VERBOSE)
        self._at, self._token = 0, ""
        self._kind: str | None = None
        self._look_around = ""  # the opening of the look-around that is being parsed
        self.behind = 1  # for assertions such as \b, which depend on one character
        self._advance()

    def _advance(self) -> None:
        if self._verbose and (skipped := _SKIPPED_IN_VERBOSE.match(self._text, self._at)):
            self._at = skipped.end()
        found = _TOKEN.match(self._text, self._at)
        self._kind = found and found.lastgroup
        self._token = found[0] if found else ""
        self._at += len(self._token)
        if self._kind in ("comment", "flags"):
            self._advance()

    def parse(self) -> _Node:
        """Parses alternatives, up to the end or to a closing parenthesis."""
        nodes = [self._parse_sequence()]
        while self._kind == "or":
            self._advance()
            nodes.append(self._parse_sequence())
        partial, plain, shortest, longest, ahead = zip(*nodes, strict=True)
        return _Node("|".join(partial), "|".join(plain), min(shortest), max(longest), max(ahead))

    def _parse_sequence(self) -> _Node:
        sequence = _EMPTY
        while self._kind not in (None, "or", "close"):
            node = self._parse_repeated()
            sequence = _Node(
                sequence.partial + node.partial,
                sequence.plain + node.plain,
                sequence.shortest + node.shortest,
                sequence.longest + node.longest,
                max(sequence.ahead - node.shortest, node.ahead),
            )
        return sequence

    def _parse_repeated(self) -> _Node:
        node = self._parse_item()
        if self._kind != "repeat":
            return node
        repeat = self._token
        if repeat[1:].endswith("+"):
            raise _refusal("a possessive repeat", repeat)
        self._advance()
        fewest, most = _repetitions(repeat)
        return _Node(
            node.partial + repeat,
            node.plain + repeat,
            node.shortest * fewest,
            node.longest * most if node.longest else 0,
            node.ahead,
        )

    def _parse_item(self) -> _Node:
        token, kind = self._token, self._kind
        if kind == "refused":
            raise _refusal(_REFUSED[token if token in _REFUSED else token[0]], token)
        self._advance()
        match kind:
            case "open":
                return self._parse_group(token)
            case "look":
                return self._parse_look_around(token)
            case "assertion":
                return self._parse_assertion(token)
        return _Node(f"(?:{token}|{_END_OF_TEXT})", token, 1, 1, 0)

    def _parse_group(self, opening: str) -> _Node:
        flags = opening if opening.endswith(":") else "(?:"
        if "x" in flags:
            raise _refusal("a change of the flag x inside of the pattern", opening)
        node = self.parse()
        self._advance()
        return node._replace(partial=f"{flags}{node.partial})", plain=f"{flags}{node.plain})")

    def _parse_assertion(self, token: str) -> _Node:
        reach = _REACH[token]
        if self._look_around == "(?!" or (self._look_around[:3] == "(?<" and reach > 1):
            raise _refusal("an assertion in a look-around", token)
        if token == "$":
            return _Node(rf"(?:{_END_OF_TEXT}|(?=\n{_END_OF_TEXT})|$)", token, 0, 0, reach)
        return _Node(f"(?:{_END_OF_TEXT}|{token})", token, 0, 0, reach)

    def _parse_look_around(self, kind: str) -> _Node:
        if self._look_around:
            raise _refusal("a look-around in a look-around", kind)
        self._look_around = kind
        node = self.parse()
        self._look_around = ""
        self._advance()
        plain = f"{kind}{node.plain})"
        if "<" in kind:
            self.behind += int(node.longest)
            return _Node(f"(?:{_END_OF_TEXT}|{plain})", plain, 0, 0, node.ahead)
        if node.longest == math.inf:
            raise _refusal("a look-ahead without a limit", kind)
        partial = f"(?={node.partial})"
        if kind == "(?!":
            # It matches: no match. It does not and cannot match: go on. Else: undecided.
            partial = f"(?:{plain}(?:(?!{node.partial})|()))"
        return _Node(partial, plain, 0, 0, int(node.longest) + node.ahead)


def _repetitions(repeat: str) -> tuple[int, float]:
    if repeat[0] != "{":
        return {"*": (0, math.inf), "+": (1, math.inf), "?": (0, 1)}[repeat[0]]
    fewest, comma, most = repeat.rstrip("?")[1:-1].partition(",")
    return int(fewest or 0), float(most or math.inf) if comma else int(fewest)


def _refusal(name: str, token: str) -> ValueError:
    return ValueError(
        f"the pattern has {name} in it, {token!r}: whether that matches cannot be decided "
        "on text that is still arriving"
    )
