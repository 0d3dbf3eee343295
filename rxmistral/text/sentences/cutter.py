"""Incremental sentence boundary detection: text of which more will arrive, into sentences.

A sentence has to be emitted early, and cannot be revoked: while text arrives, "He lives
in the U.S." may be a sentence or half of one. A segmenter knows whole texts only
(`segmenters`).

Strategy: ask the segmenter about the text so far, but

- only at fixed points of the text, never at the end of the text that happens to have
  arrived, so that the sentences do not depend on how the text was cut: at the first
  visible character after a stop, and, if that is too early or the answer is no, once
  more when the word after it has ended;
- with a view of the text that does not mislead it, and not at all if the stop is part of
  something that continues (`boundaries`);
- not at all about text that is not prose: a newline ends a sentence; a fenced code block,
  the row of a table and a displayed formula count as one.

The scan is written as one program, a generator. It stops wherever it needs a character
that has not arrived, and yields a pattern for that character. Text without a match is put
aside after a single search.

    _old_parts          context.text                             _new_parts
    not inspected any   may be inspected                         arrived since; without
    longer              ..sentence_start...pending_start...at..  a character to wait for

A sentence is `_old_parts` and the text from `_pending_start`, the first character that
was not emitted, to the cut. So the joined sentences are the text, whatever the scan does.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

from ...rx.state_machine import StateMachine
from . import markup
from .boundaries import ATTRIBUTION, LONG_RUN, MAY_BE_ATTRIBUTION, WINDOW, SentenceContext
from .segmenters import SentenceSegmenter

__all__ = ["SentenceCutter"]

# Characters that the scan waits for.
_ANY = re.compile(r"(?s:.)")
_NEWLINE = re.compile(r"\n")
_VISIBLE = re.compile(r"\S")
_VISIBLE_OR_NEWLINE = re.compile(r"[\S\n]")
_NOT_INDENT = re.compile(r"[^ \t]")
_NOT_BLANK = re.compile(r"[^ \t\r]")
_NOT_EMOJI = re.compile(f"[^{markup.EMOJI}]")
_NOT_MARK = {mark: re.compile(f"[^{mark}]") for mark in "`~"}
# An info string after backticks contains no backtick: ```this``` is code within a line.
_END_OF_INFO = {"`": re.compile("[\n`]"), "~": _NEWLINE}

# The text that has to arrive before the segmenter is asked once more.
_WORD = re.compile(rf"(?:[«»“„\"—–]\s)?+[^\w\s{markup.STOPS}]{{0,8}}+\w{{0,{LONG_RUN}}}+(?s:.)")
_OPENING = re.compile(rf"(?:[—–]\s)?+[^\w\s{markup.STOPS}]{{0,8}}+(?s:.)")

_EMOJI = re.compile(f"[{markup.EMOJI}]")
_CJK = re.compile(f"[{markup.CJK}]")
_UP_TO_LAST_SPACE = re.compile(r"(?s:.*\s)")

Scan: TypeAlias = Generator[re.Pattern[str], None, Any]  # yields characters to wait for


class SentenceCutter(StateMachine[str, str]):
    def __init__(self, segmenter: SentenceSegmenter, max_chars: int | None = None) -> None:
        self._context = SentenceContext(segmenter)
        stops = self._context.stops
        self._stop_or_newline = re.compile(f"[\n{stops}]")
        self._after_stops = re.compile(f"[^{stops}{markup.CLOSERS}]")
        self._max_chars = max_chars
        self._output: list[str] = []
        self._old_parts: list[str] = []
        self._new_parts: list[str] = []
        self._pending_chars = 0  # received and not emitted
        self._at = self._pending_start = 0
        self._closed = False
        self._in_code_block = False
        self._scanner = self._scan()
        self._awaited = next(self._scanner).search

    def feed(self, text: str) -> Sequence[str]:
        if self._max_chars is not None and self._pending_chars + len(text) > self._max_chars:
            self._receive_within(self._max_chars, text)
        elif not self._receive(text):
            return ()
        return self._pop_output()

    def flush(self) -> list[str]:
        """Returns all pending text, finished or not, unless it is white space."""
        self._join_parts()
        pending = self._pending_text()
        if pending and not pending.isspace():
            self._emit(pending, len(self._context.text))
        return self._pop_output()

    def close(self) -> list[str]:
        """Returns the remaining text, even if the segmenter fails."""
        self._closed = True
        try:
            self._advance()
        except Exception as error:
            self.error = error
        if self._pending_chars:
            self._emit(self._pending_text(), len(self._context.text))
        return self._pop_output()

    def _receive(self, text: str) -> bool:
        """Adds text; returns whether it contained a character that the scan waited for."""
        self._new_parts.append(text)
        self._pending_chars += len(text)
        if self._awaited(text) is None:
            return False
        self._advance()
        return True

    def _advance(self) -> None:
        self._join_parts()
        self._awaited = next(self._scanner, _ANY).search

    def _join_parts(self) -> None:
        self._context.text += "".join(self._new_parts)
        self._new_parts.clear()

    def _pop_output(self) -> list[str]:
        output, self._output = self._output, []
        return output

    def _pending_text(self, end: int | None = None) -> str:
        return "".join(self._old_parts) + self._context.text[self._pending_start : end]

    # --- max_chars ---

    def _receive_within(self, limit: int, text: str) -> None:
        # One character more than the limit decides each end within the limit.
        done = 0
        while done < len(text):
            end = done + limit + 1 - self._pending_chars
            self._receive(text[done:end])
            done = end
            if self._pending_chars > limit:
                self._cut_within(limit)

    def _cut_within(self, limit: int) -> None:
        """Cuts after the last white space within the limit; in code, after the last line."""
        self._join_parts()
        pending = self._pending_text()
        end = pending.rfind("\n", 0, limit) + 1 if self._in_code_block else 0
        if not end:
            space = _UP_TO_LAST_SPACE.match(pending, 0, limit + 1)
            end = min(space.end(), limit) if space else limit
        remaining, text = pending[end:], self._context.text
        start = max(len(text) - len(remaining), 0)
        self._emit(pending[:end], start)
        self._old_parts.append(remaining[: len(remaining) - len(text[start:])])

    # --- cuts ---

    def _cut(self, end: int) -> None:
        sentence = self._pending_text(end)
        if sentence and not sentence.isspace():
            self._emit(sentence, end)
        self._at = self._context.sentence_start = end
        self._context.capital = None

    def _emit(self, text: str, pending_start: int) -> None:
        self._output.append(text)
        self._pending_chars -= len(text)
        self._old_parts.clear()
        self._pending_start = pending_start

    def _put_aside(self) -> None:
        """Moves text that will not be inspected again to `_old_parts`."""
        context = self._context
        start = max(context.sentence_start, self._at - WINDOW)
        if start < WINDOW:
            return
        context.starts_with_capital(self._at)  # remembers it
        if self._pending_start < start:
            self._old_parts.append(context.text[self._pending_start : start])
        context.text = context.text[start:]
        context.sentence_start -= start
        self._at -= start
        self._pending_start = max(self._pending_start - start, 0)

    # --- waiting for text ---

    def _until(self, awaited: re.Pattern[str], *, put_aside: bool = False) -> Scan:
        """Goes to the next match, and returns it; or "" if the text ends before it.

        With `put_aside` text may be put aside meanwhile: the caller must keep no offset.
        """
        while not (found := awaited.search(self._context.text, self._at)):
            self._at = len(self._context.text)
            if self._closed:
                return ""
            if put_aside:
                self._put_aside()
            yield awaited
        self._at = found.start()
        return found[0]

    def _end_of(self, pattern: re.Pattern[str]) -> Scan:
        """Returns the end of the pattern's match here, or the end of the text."""
        while not (found := pattern.match(self._context.text, self._at)):
            if self._closed:
                return len(self._context.text)
            yield _ANY
        return found.end()

    # --- the scan: lines ---

    def _scan(self) -> Scan:
        while (yield from self._line()):
            pass

    def _line(self) -> Scan:
        start = self._at
        first = yield from self._until(_NOT_INDENT)
        if first == "|":  # the row of a table
            yield from self._until(_NEWLINE, put_aside=True)
        elif first not in _NOT_MARK or not (yield from self._code_block(first)):
            self._at = start
            yield from self._prose()
            if (mark := self._context.open_formula(self._at + 1)) in markup.DISPLAY:
                yield from self._displayed_formula(mark)
                yield from self._prose()
        return (yield from self._newline())

    def _newline(self) -> Scan:
        """Cuts at a line end: blank lines before the cut, indentation after it."""
        line_end, context = self._at, self._context
        if not (yield from self._until(_VISIBLE)):
            return False
        self._at = context.text.rfind("\n", 0, self._at) + 1
        if context.text.count("\n", line_end, self._at) > 1 or not context.is_list_mark(line_end):
            self._cut(self._at)
            context.open_quote = ""
        return True

    def _code_block(self, mark: str) -> Scan:
        """Goes to the end of a fenced code block; returns False if this is not one
        (CommonMark 0.31, 4.5)."""
        width = yield from self._fence_width(mark)
        if width < 3 or (yield from self._until(_END_OF_INFO[mark])) == "`":
            return False
        self._in_code_block = True
        while (yield from self._until(_NEWLINE, put_aside=True)):
            self._at += 1
            if (yield from self._closes_code_block(mark, width)):
                break
        self._in_code_block = False
        return True

    def _closes_code_block(self, mark: str, width: int) -> Scan:
        """Returns whether this line is a fence that is at least as long, and nothing else."""
        if (yield from self._until(_NOT_INDENT)) != mark:
            return False
        if (yield from self._fence_width(mark)) < width:
            return False
        return (yield from self._until(_NOT_BLANK)) in ("\n", "")

    def _fence_width(self, mark: str) -> Scan:
        start = self._at
        yield from self._until(_NOT_MARK[mark])
        return self._at - start

    def _displayed_formula(self, mark: str) -> Scan:
        """Goes to the end of a displayed formula, or to a blank line."""
        while found := (yield from self._until(markup.DISPLAY[mark], put_aside=True)):
            if found == "\n":
                if (yield from self._is_before_blank_line()):
                    return
            else:
                self._at += 1
                if self._context.text[self._at - 2] == mark[0]:
                    return

    def _is_before_blank_line(self) -> Scan:
        line_end, self._at = self._at, self._at + 1
        if (yield from self._until(_NOT_BLANK)) not in ("\n", ""):
            return False
        self._at = line_end
        return True

    # --- the scan: prose ---

    def _prose(self) -> Scan:
        """Goes to the end of a line of prose, and cuts it into sentences."""
        while (yield from self._until(self._stop_or_newline, put_aside=True)) not in ("\n", ""):
            yield from self._stop()

    def _stop(self) -> Scan:
        """Cuts after this stop if a sentence ends there, and goes on after it."""
        context, stop = self._context, self._at
        yield from self._until(self._after_stops)
        end = self._at
        following = yield from self._start_of_next(stop)
        if following in ("\n", "") or following in context.stops or following in ",;:，、；：&":
            return
        next_start = self._at
        if next_start == end:  # no white space
            if context.is_within_word(stop):
                return
            next_start = context.first_opener(stop, end)
        if (yield from self._is_boundary(stop, next_start)):
            context.open_quote = context.quote_left_open(stop, next_start)
            self._cut(next_start)

    def _start_of_next(self, stop: int) -> Scan:
        """Goes past white space, and past marks in it that belong to the sentence before;
        returns the first character of the next sentence."""
        while (found := (yield from self._until(_VISIBLE_OR_NEWLINE))) not in ("\n", ""):
            if self._context.closes_quote(stop, found, self._at):
                self._at += 1
            elif not (yield from self._pass_appendix(stop, found)):
                break
        return found

    def _pass_appendix(self, stop: int, first: str) -> Scan:
        """Goes past emoji, or references such as [1], that white space follows; returns
        whether there are any."""
        start = self._at
        if first == "[":
            lookahead = yield from self._end_of(markup.AFTER_REFERENCE)
            found = markup.REFERENCE.match(self._context.text, start, lookahead)
            self._at = found.end() if found else start
            following, passed = self._context.text[self._at : self._at + 1], found is not None
        elif _EMOJI.match(first) and not self._context.starts_with_emoji(stop):
            following = yield from self._until(_NOT_EMOJI)
            passed = True
        else:
            return False
        if passed and (following.isspace() or not following or _CJK.match(following)):
            return True
        self._at = start
        return False

    def _is_boundary(self, stop: int, next_start: int) -> Scan:
        context, following = self._context, self._at
        mark = context.open_formula(stop)
        if mark:
            lookahead = yield from self._end_of(markup.FORMULA_ENDS[mark][0])
            if markup.is_formula_closed(mark, context.text, self._at, lookahead):
                return False
        if context.may_end_speech(stop, next_start):
            lookahead = yield from self._end_of(MAY_BE_ATTRIBUTION)
            if ATTRIBUTION.match(context.text, following, lookahead):
                return False
        is_clear, may_be_dot = context.is_clear(stop, following), context.may_be_dot(stop)
        if is_clear and context.is_boundary(stop, next_start, following + 1):
            return True
        if may_be_dot or not is_clear:
            lookahead = yield from self._end_of(_WORD if may_be_dot else _OPENING)
            return context.is_boundary(stop, next_start, lookahead)
        return False
