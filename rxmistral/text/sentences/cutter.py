"""Where a text is cut into sentences while it comes.

A sentence has to be out early, and what is out can never be taken back: while text
comes in, "He lives in the U.S." may be a sentence or the half of one. An engine that
knows whole texts (`sentence_segmenters`) is therefore asked about the text so far, but

- only at fixed points of the text, never at the end of what happens to have come, so
  that the sentences do not depend on how the text was cut: at the first visible
  character after a stop, and, where that is too early or the answer is no, once more
  when the word after it has ended;
- with a view of the text that does not mislead it: a bounded number of characters, no
  emoji, no half of a pair of quotation marks;
- not at all about text that is not prose: a newline ends a unit, a fenced code block is
  one, and so are the row of a table and a displayed formula;
- nor where a stop stands in something that goes on: a list mark, a code span, a formula,
  brackets, a title, speech before the one who says it.

The reading is written as one plan, a generator that stops wherever it needs a character
which has not come, and says which one that is; text without it is put aside after a
single search.

    held              text                                          parts
    too long ago to   may be looked at                              came since; nothing
    be looked at      ....unit.......start.........at......         waited for is in it

A piece is what is held and the text from `start`, the first character that was not
emitted, to the cut: the pieces make up the text, whatever the plan may be worth.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from functools import cache
from typing import Any, TypeAlias

from ...rx.state_machine import StateMachine
from .segmenters import SentenceSegmenter

__all__ = ["SentenceCutter"]

_WINDOW = 400  # characters before a stop that are looked at
_LONG_RUN = 40  # characters after which a run of stops or a word is long enough to judge
_LONG_FORMULA = 200  # characters after a stop in which its formula has to end

_STOPS = ".!?…։؝؞؟۔܀܁܂।॥၊။።፧፨᙮᠃᠉។៕‼‽⁇⁈⁉⸮。．！？｡﹒﹖﹗"
_NEED_SPACE = ".!?…"  # stops that end nothing without white space after them
_CLOSERS = "\"'“”’»«›‹*_~`)\\]}」』）】》〉］｝"  # directly after a stop
_EMOJI = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u200d\ufe0f\u20e3\U000e0020-\U000e007f"
_BULLETS = "•◦‣▪▫●○■□"
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"  # written without white space

# What the plan waits for.
_ANY = re.compile(r"(?s:.)")
_NEWLINE = re.compile(r"\n")
_VISIBLE = re.compile(r"\S")
_VISIBLE_OR_NEWLINE = re.compile(r"[\S\n]")
_NO_INDENT = re.compile(r"[^ \t]")
_NO_BLANK = re.compile(r"[^ \t\r]")
_AFTER_EMOJI = re.compile(f"[^{_EMOJI}]")
_AFTER_MARK = {mark: re.compile(f"[^{mark}]") for mark in "`~"}
# An info string after backticks has none itself: ```this``` is code within a line.
_END_OF_INFO = {"`": re.compile("[\n`]"), "~": _NEWLINE}

# How far it looks before it asks once more.
_WORD = re.compile(rf"(?:[«»“„\"—–]\s)?+[^\w\s{_STOPS}]{{0,8}}+\w{{0,{_LONG_RUN}}}+(?s:.)")
_OPENING = re.compile(rf"(?:[—–]\s)?+[^\w\s{_STOPS}]{{0,8}}+(?s:.)")

# Letters and marks.
_LETTER = re.compile(r"[^\W\d_]")
_LIKE_CAPITAL = re.compile("`|[a-z][A-Z]")  # `rm` deletes it. iOS does not.
_A_CJK = re.compile(f"[{_CJK}]")
_DOTTED = re.compile(r"[\d.]")  # "3", "U.S", "example.com"
_LONE_EMOJI = re.compile(f"[{_EMOJI}]+")
_NO_WORD = re.compile(f"[*_~{_EMOJI}]")
_EMPHASIS = re.compile(r"(?<!\w)[*_\[]+(?=\w)")  # **Mr. Fox** is an abbreviation still
_EITHER_WAY = re.compile(r"(([\"'“*_~`])\2*)[\"'“*_~`]*\Z")  # marks that open as well as close
_CLOSING_BRACKET = re.compile("[)）]")
_QUOTES = re.compile('["“”„«»‹›「」『』]')
_OPENER = {
    "”": "“", "“": "„", "»": "«", "«": "»", "›": "‹", "‹": "›", "」": "「", "』": "『",
}  # fmt: skip
_OPENING_QUOTES = '"“„«»「『'
_CLOSED_ONLY = "”」』"

# References such as [1] and [^note]; some are as good as any number.
_REFERENCE = re.compile(r"(?:\[(?:\d{1,3}|\^[\w-]{1,30})\])+")
_AFTER_REFERENCE = re.compile(r"(?:\[(?:\^[\w-]{0,30}|\d{0,3})\]?){0,8}+(?s:.)")

# What stands before a text, and is none.
_LIST_MARK = re.compile(
    r"(?!\s*[-*_]{3})[\s>*_]*"
    rf"(?:(?:[-+–{_BULLETS}]|#{{1,6}}"
    r"|\(?(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxIVX]{1,5})[.)．])(?:[\s*_]+|\Z)){0,2}"
)
_LONGEST_LIST_MARK = 24
_LABEL = re.compile(  # Chapter 1. The sea
    r"(?i:[\s>#*_]{0,9}(?:Chapter|Part|Section|Act|Scene|Step|Stage|Phase|Rule|Lesson|Exercise"
    r"|Example|Question|Q|Figure|Table|Kapitel|Teil|Abschnitt|Schritt|Abbildung|Tabelle|Chapitre"
    r"|Partie|Étape|Capítulo|Parte|Paso|Passo|Capitolo|Fase)\s?(?:\d{1,3}|[IVX]{1,5})\.\s)"
)
_LONGEST_LABEL = 30

# What a stop may stand in without ending anything.
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)  # CommonMark 6.1
_DECIMAL = re.compile(r"\d．\d")
# Dots alone are a pause there, not an end.
_BETWEEN_CJK = re.compile(f"[{_CJK}](?!…+[^{_STOPS}])[{_STOPS}{_CLOSERS}]+[{_CJK}]")
_QUOTED_ON = re.compile("[」』）][とってのはがをもでになか]")  # "...", he said, in Japanese

# Formulas, with dollars as pandoc reads them (extension tex_math_dollars): the first is
# before a visible character, the last is after one and not before a digit. A price or the
# name of a variable is not the start of one.
_FORMULA = re.compile(
    r"\$\$.*?\$\$|\\\(.*?\\\)|\\\[.*?\\\]|(?<!\\)\$(?=[^\s$])[^$\n]*(?<=[^\s\\])\$(?!\d)", re.DOTALL
)
_OPENS_FORMULA = re.compile(r"(?<!\$)\$\$(?=[^$])|\\[(\[]|(?<![\\$])\$(?=[^\s$.,;:!?)])")
_CLOSES_NOTHING = re.compile(r"[\s\\]|.\$\d")
_PRICE_OR_NAME = re.compile(
    r"\$(?:\d[\d.,]*(?:[kKMBm]|bn)?(?![\w\\^{])|[A-Za-z_]{2})(?!.*[\\^{=+<>])", re.DOTALL
)


def _formula_end(closing: str, outside: str) -> tuple[re.Pattern[str], str]:
    """A pattern that looks for the end of a formula, and that end."""
    inside = rf"(?!{re.escape(closing)}|{outside})(?s:.)"
    return re.compile(rf"(?:{inside}){{0,{_LONG_FORMULA}}}+(?s:..)"), closing


_FORMULA_ENDS = {
    "$": _formula_end("$", r"\n"),
    r"\(": _formula_end(r"\)", r"\n"),
    "$$": _formula_end("$$", r"\n[ \t]*\n"),
    r"\[": _formula_end(r"\]", r"\n[ \t]*\n"),
}
_DISPLAY = {"$$": re.compile(r"[$\n]"), r"\[": re.compile(r"[\]\n]")}

# “Where?” Elena asked. Most languages turn that round, and write a small letter.
_NAME = (
    r"(?!(?:The|He|She|It|They|We|You|This|That|There|Then|When|But|And|So|No|His|Her|My"
    r"|Nobody|Everyone|Someone)\s)[A-Z][\w.'’-]{0,20}\s"
)
_TAG = re.compile(
    rf"(?:{_NAME}){{1,3}}(?:said|asked|replied|answered|shouted|whispered|cried|yelled|called"
    r"|added|explained|muttered|murmured|exclaimed|screamed|wondered|demanded|insisted|roared"
    r"|gasped|pleaded|inquired|repeated|says|asks|replies)\b"
    r"|[\u4e00-\u9fff]{0,7}[说說问問道喊叫答][。，：]"
)
_MAY_BE_TAG = re.compile(rf"(?:[{_CJK}]{{1,8}}+|(?:{_NAME}){{0,3}}+[\w.'’-]{{0,21}}+)(?s:.)")

Reading: TypeAlias = Generator[re.Pattern[str], None, Any]


@cache
def _searches(stops: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Patterns for a stop or a newline, and for the end of a run of stops."""
    return re.compile(f"[\n{stops}]"), re.compile(f"[^{stops}{_CLOSERS}]")


class SentenceCutter(StateMachine[str, str]):
    """Cuts the text of one answer into sentences; knows no Rx, no time and no thread.

    Args:
        segmenter: The engine.
        max_chars: The longest piece, in characters.
    """

    def __init__(self, segmenter: SentenceSegmenter, max_chars: int | None = None) -> None:
        self._segmenter = segmenter
        more: str = getattr(segmenter, "stops", "")
        self._stops, self._marks, self._need_space = _STOPS + more, ".!?" + more, _NEED_SPACE + more
        self._stop_or_newline, self._after_stop = _searches(self._stops)
        self._limit = max_chars
        self._ready: list[str] = []
        self._held: list[str] = []
        self._text = ""
        self._parts: list[str] = []
        self._pending = 0  # characters in all three
        self._at = self._start = self._unit = 0
        self._ended = False
        self._fenced = False
        self._quote = ""  # the quotation mark that the sentence before left open
        self._capital: bool | None = None  # whether this sentence began with one
        self._plan = self._read()
        self._awaited = next(self._plan).search

    # --- the faces ---

    def feed(self, text: str) -> Sequence[str]:
        """The sentences that are known to have ended, now that this text has come."""
        if self._limit is not None and self._pending + len(text) > self._limit:
            self._feed_within(self._limit, text)
        elif not self._look(text):
            return ()
        return self._take()

    def flush(self) -> list[str]:
        """All that is pending, finished or not; what comes next goes on from there."""
        self._join()
        pending = self._pending_text()
        if not _is_blank(pending):
            self._emit(pending, len(self._text))
        return self._take()

    def close(self) -> list[str]:
        """Returns the remaining text, even if the segmenter fails."""
        self._ended = True
        try:
            self._go_on()
        except Exception as error:
            self.error = error
        if self._pending:
            self._emit(self._pending_text(), len(self._text))
        return self._take()

    def _look(self, text: str) -> bool:
        """Whether anything that was awaited is in the text."""
        self._parts.append(text)
        self._pending += len(text)
        if self._awaited(text) is None:
            return False
        self._go_on()
        return True

    def _go_on(self) -> None:
        self._join()
        self._awaited = next(self._plan, _ANY).search

    def _join(self) -> None:
        self._text += "".join(self._parts)
        self._parts.clear()

    def _take(self) -> list[str]:
        ready, self._ready = self._ready, []
        return ready

    def _pending_text(self) -> str:
        return "".join(self._held) + self._text[self._start :]

    # --- max_chars ---

    def _feed_within(self, limit: int, text: str) -> None:
        """A piece is forced out when one character more than the limit has come: by then
        every end within the limit that can be found is found."""
        done = 0
        while done < len(text):
            upto = done + limit + 1 - self._pending
            self._look(text[done:upto])
            done = upto
            if self._pending > limit:
                self._force(limit)

    def _force(self, limit: int) -> None:
        """Emit to the last white space within the limit; in code, to the last newline."""
        self._join()
        pending = self._pending_text()
        end = pending.rfind("\n", 0, limit) + 1 if self._fenced else 0
        end = end or _last_space(pending, limit) or limit
        rest = pending[end:]
        start = max(len(self._text) - len(rest), 0)
        self._emit(pending[:end], start)
        self._held.append(rest[: len(rest) - len(self._text[start:])])

    # --- cuts ---

    def _cut(self, end: int) -> None:
        """A sentence ends here."""
        piece = "".join(self._held) + self._text[self._start : end]
        if not _is_blank(piece):
            self._emit(piece, end)
        self._at = self._unit = end
        self._capital = None

    def _emit(self, piece: str, start: int) -> None:
        self._ready.append(piece)
        self._pending -= len(piece)
        self._held.clear()
        self._start = start

    def _forget(self) -> None:
        """Put aside text that nothing will look at again."""
        begun = max(self._unit, self._at - _WINDOW)
        if begun < _WINDOW:
            return
        self._begins_with_capital(self._at)
        if self._start < begun:
            self._held.append(self._text[self._start : begun])
        self._text = self._text[begun:]
        self._at -= begun
        self._unit -= begun
        self._start = max(self._start - begun, 0)

    # --- the plan: lines ---

    def _until(self, awaited: re.Pattern[str], *, forget: bool = False) -> Reading:
        """Go to the next character that is awaited; "" where the text ends before."""
        while not (found := awaited.search(self._text, self._at)):
            self._at = len(self._text)
            if self._ended:
                return ""
            if forget:  # the caller remembers no offset
                self._forget()
            yield awaited
        self._at = found.start()
        return found[0]

    def _read(self) -> Reading:
        while (yield from self._line()):
            pass

    def _line(self) -> Reading:
        begun = self._at
        first = yield from self._until(_NO_INDENT)
        if first == "|":  # the row of a table
            yield from self._until(_NEWLINE, forget=True)
        elif first not in _AFTER_MARK or not (yield from self._fence(first)):
            self._at = begun
            yield from self._prose()
            if (mark := self._open_formula(self._at + 1)) in _DISPLAY:
                yield from self._display(mark)
                yield from self._prose()
        return (yield from self._newline())

    def _newline(self) -> Reading:
        """Blank lines go left, the indentation of the next line goes right."""
        line_end = self._at
        if not (yield from self._until(_VISIBLE)):
            return False
        self._at = self._text.rfind("\n", 0, self._at) + 1
        if self._text.count("\n", line_end, self._at) > 1 or not self._is_list_mark(line_end):
            self._cut(self._at)
            self._quote = ""
        return True

    def _fence(self, mark: str) -> Reading:
        """A fenced code block, to its end; False where it is none (CommonMark 4.5)."""
        width = yield from self._width(mark)
        if width < 3 or (yield from self._until(_END_OF_INFO[mark])) == "`":
            return False
        self._fenced = True
        while (yield from self._until(_NEWLINE, forget=True)):
            self._at += 1
            if (yield from self._closes(mark, width)):
                break
        self._fenced = False
        return True

    def _closes(self, mark: str, width: int) -> Reading:
        """Whether this line closes the block: a fence at least as long, and no more."""
        if (yield from self._until(_NO_INDENT)) != mark:
            return False
        if (yield from self._width(mark)) < width:
            return False
        return (yield from self._until(_NO_BLANK)) in ("\n", "")

    def _display(self, mark: str) -> Reading:
        """The lines of a formula, to its end or to a blank line."""
        while found := (yield from self._until(_DISPLAY[mark], forget=True)):
            if found == "\n":
                if (yield from self._is_before_blank_line()):
                    return
            else:
                self._at += 1
                if self._text[self._at - 2] == mark[0]:
                    return

    def _is_before_blank_line(self) -> Reading:
        line_end = self._at
        self._at += 1
        if (yield from self._until(_NO_BLANK)) not in ("\n", ""):
            return False
        self._at = line_end
        return True

    def _width(self, mark: str) -> Reading:
        begun = self._at
        yield from self._until(_AFTER_MARK[mark])
        return self._at - begun

    # --- the plan: prose ---

    def _prose(self) -> Reading:
        while (yield from self._until(self._stop_or_newline, forget=True)) not in ("\n", ""):
            yield from self._stop()

    def _stop(self) -> Reading:
        """Cut after this stop, or go to where the next one may be."""
        stop = self._at
        yield from self._until(self._after_stop)
        end = self._at
        after = yield from self._first_to_go_right(stop)
        if after in ("\n", "") or after in self._stops or after in ",;:，、；：&":
            return
        right = self._at
        if right == end:  # no white space
            if self._is_within_word(stop):
                return
            right = self._first_opener(stop, end)
        if (yield from self._ends(stop, right)):
            self._quote = self._open_quote(stop, right)
            self._cut(right)

    def _first_to_go_right(self, stop: int) -> Reading:
        """White space, and what stands alone in it, goes left."""
        while (after := (yield from self._until(_VISIBLE_OR_NEWLINE))) not in ("\n", ""):
            if self._closes_quote(stop, after):
                self._at += 1
            elif not (yield from self._stands_alone(stop, after)):
                break
        return after

    def _stands_alone(self, stop: int, after: str) -> Reading:
        """Go past emoji, or references such as [1], that white space follows."""
        begun = self._at
        if after == "[":
            sight = yield from self._upto(_AFTER_REFERENCE)
            found = _REFERENCE.match(self._text, begun, sight)
            self._at = found.end() if found else begun
            following, alone = self._text[self._at : self._at + 1], found is not None
        elif _LONE_EMOJI.match(after) and not self._begins_with_emoji(stop):
            following = yield from self._until(_AFTER_EMOJI)
            alone = True
        else:
            return False
        if alone and (following.isspace() or not following or _A_CJK.match(following)):
            return True
        self._at = begun
        return False

    def _ends(self, stop: int, right: int) -> Reading:
        """Whether a sentence ends with this stop, what follows being at `right`."""
        after = self._at
        mark = self._open_formula(stop)
        if mark and (yield from self._is_closed(mark)):
            return False
        if self._may_be_said(stop, right):
            sight = yield from self._upto(_MAY_BE_TAG)
            if _TAG.match(self._text, after, sight):
                return False
        clear, may_be_dot = self._is_clear(stop, after), self._text[stop] in self._need_space
        if clear and self._is_end(stop, right, after + 1):
            return True
        if may_be_dot or not clear:
            sight = yield from self._upto(_WORD if may_be_dot else _OPENING)
            return self._is_end(stop, right, sight)
        return False

    def _is_closed(self, mark: str) -> Reading:
        """Whether the formula that this mark began has an end."""
        look, closing = _FORMULA_ENDS[mark]
        sight = yield from self._upto(look)
        end = self._text.find(closing, self._at, sight)
        return end >= 0 and (mark != "$" or not _CLOSES_NOTHING.match(self._text, end - 1, sight))

    def _upto(self, what: re.Pattern[str]) -> Reading:
        """The offset at which something ends that begins here."""
        while not (found := what.match(self._text, self._at)):
            if self._ended:
                return len(self._text)
            yield _ANY
        return found.end()

    # --- what is asked about a stop ---

    def _is_end(self, stop: int, right: int, sight: int) -> bool:
        if self._is_in_something(stop, right) or self._goes_on(stop, right, sight):
            return False
        begun, view = self._view(stop, right, sight)
        return any(stop - begun < end < len(view) for end in self._segmenter.boundaries(view))

    def _goes_on(self, stop: int, right: int, sight: int) -> bool:
        """Whether a small letter that follows tells enough."""
        letter = _LETTER.search(self._text, right, sight)
        if letter is None or not letter[0].islower():
            return False
        if _LIKE_CAPITAL.match(self._text, right, sight):
            return False
        run = self._text[stop:right]
        return ")" in run or "…" in run or self._writes_small(stop)

    def _writes_small(self, stop: int) -> bool:
        """Whether a small letter after the stop means that the sentence goes on: in a text
        that writes capitals, but for a dot after what is no abbreviation."""
        if not self._begins_with_capital(stop) or self._text[stop] not in self._marks:
            return False
        token = self._token(stop)
        return self._text[stop] != "." or len(token) <= 4 or _DOTTED.search(token) is not None

    def _is_clear(self, stop: int, after: int) -> bool:
        """Whether the first character after a stop is enough to judge it by."""
        if not self._text[after].isalpha():
            return False
        token = self._token(stop)
        return self._text[stop] != "." or (len(token) > 1 and not _DOTTED.search(token))

    def _token(self, stop: int) -> str:
        """What stands before a stop, to the white space."""
        words = self._text[max(self._window(stop), stop - _LONG_RUN) : stop].split()
        return words[-1].strip("\"'“”‘’«»*_~`()[]") if words else ""

    def _begins_with_capital(self, upto: int) -> bool:
        if self._capital is None:
            first = _LETTER.search(self._text, max(self._unit, 0), upto)
            self._capital = None if first is None else first[0].isupper()
        return bool(self._capital)

    def _begins_with_emoji(self, stop: int) -> bool:
        return _LONE_EMOJI.match(self._text, self._begins(stop)) is not None

    def _begins(self, stop: int) -> int:
        """Where the words of this sentence begin, after a list mark."""
        mark = _LIST_MARK.match(self._text, self._window(stop), stop)
        return mark.end() if mark else self._window(stop)

    def _window(self, stop: int) -> int:
        return max(self._unit, stop - _WINDOW)

    def _closes_quote(self, stop: int, mark: str) -> bool:
        """Whether it closes one of this sentence, across white space: « Oui ! »"""
        return mark in _OPENER and self._is_open(stop, mark, self._at)

    def _is_open(self, stop: int, mark: str, end: int) -> bool:
        """Whether this mark closes something that the sentence has opened before `end`."""
        begun, opener = self._window(stop), _OPENER.get(mark, mark)
        opened = self._text.count(opener, begun, end) + (self._quote == opener)
        if opener == mark:
            return opened % 2 == 1
        return opened > self._text.count(mark, begun, end)

    def _first_opener(self, stop: int, end: int) -> int:
        """Where text goes on that has no white space: before marks that open there."""
        marks = _EITHER_WAY.search(self._text[:end], stop)
        if marks is None:
            return end
        return end if self._is_open(stop, marks[1], marks.start()) else marks.start()

    # --- what a stop may stand in ---

    def _is_in_something(self, stop: int, right: int) -> bool:
        if self._is_list_mark(right) or self._is_label(right):
            return True
        run = self._text[stop:right]
        last = stop + max(at for at, mark in enumerate(run) if mark in self._stops)
        return (
            self._is_in_code(last) or self._is_in_brackets(last) or self._is_in_quoted(last, right)
        )

    def _is_list_mark(self, end: int) -> bool:
        if end - self._unit > _LONGEST_LIST_MARK:
            return False
        return _LIST_MARK.fullmatch(self._text[max(self._unit, 0) : end]) is not None

    def _is_label(self, end: int) -> bool:
        if end - self._unit > _LONGEST_LABEL:
            return False
        return _LABEL.fullmatch(self._text, max(self._unit, 0), end) is not None

    def _is_in_code(self, stop: int) -> bool:
        before = self._text[self._window(stop) : stop]
        return "`" in before and "`" in _CODE_SPAN.sub("", before)

    def _open_formula(self, stop: int) -> str:
        """The mark of a formula that may be open at this stop, or ""."""
        begun = self._window(stop)
        if self._text.find("$", begun, stop) < 0 and self._text.find("\\", begun, stop) < 0:
            return ""
        before = _FORMULA.sub("", _CODE_SPAN.sub("", self._text[begun:stop]))
        opened = [*_OPENS_FORMULA.finditer(before)]
        if not opened or _PRICE_OR_NAME.match(before, opened[-1].start()):
            return ""
        return opened[-1][0]

    def _is_in_brackets(self, stop: int) -> bool:
        """Whether brackets are open that do not hold the whole sentence."""
        text, begins = self._text, self._begins(stop)
        for opening, closing in ("()", "（）"):
            opened = text.rfind(opening, begins + 1, stop)
            if opened > text.rfind(closing, begins, stop) and not text[opened + 1].isspace():
                return True
        return False

    def _is_in_quoted(self, stop: int, right: int) -> bool:
        """Whether a title ends here, or speech after which the sentence goes on."""
        closers = self._text[stop:right]
        if "》" in closers or _QUOTED_ON.match(self._text, right - 1):
            return True
        return self._text[right] in "—–" and _QUOTES.search(closers) is not None

    def _is_within_word(self, stop: int) -> bool:
        """Whether this stop, no white space being after it, is none."""
        if self._text[stop] in self._need_space:
            return _BETWEEN_CJK.match(self._text, stop - 1) is None
        return _DECIMAL.match(self._text, stop - 1) is not None

    def _may_be_said(self, stop: int, right: int) -> bool:
        """Whether it is speech that is closed here, so that who said it may follow."""
        text, run = self._text, self._text[stop:right]
        if run[0] == "." or not _QUOTES.search(run):
            return False
        return bool(self._quote) or text[self._begins(stop)] in _OPENING_QUOTES

    # --- what the engine sees ---

    def _view(self, stop: int, right: int, sight: int) -> tuple[int, str]:
        """A text for the engine, and the offset at which it begins."""
        text, begun = self._text, self._window(stop)
        if begun > self._unit:
            begun = text.find(" ", begun, stop) + 1 or begun
        ending = _NO_WORD.sub(" ", text[stop : min(right, stop + _LONG_RUN)])
        before, word = text[begun:stop], text[right:sight].replace("(", " ")
        if word[-2:-1].isalnum() and not (word[-1].isalnum() or word[-1] == "."):
            word = word[:-1] + " "  # It's begins with It
        mark = self._begins(stop) - begun
        before = " " * mark + _EMPHASIS.sub(_blanks, before[mark:])
        view = before + _REFERENCE.sub(_blanks, ending) + word
        if "(" in view or "（" in view:
            view = _without_brackets(view, stop - begun)
        if _QUOTES.search(view) is None:
            return begun, view
        return self._without_half_quotes(begun, view)

    def _without_half_quotes(self, begun: int, view: str) -> tuple[int, str]:
        quote = self._quote if begun == self._unit else ""
        halves = _open_quotes(view, quote)
        if quote and (not halves or halves[0] >= 0):  # it is closed in here
            return begun - 1, quote + _blanked(view, halves)
        return begun, _blanked(view, [half for half in halves if half >= 0])

    def _open_quote(self, stop: int, end: int) -> str:
        begun = self._window(stop)
        halves = _open_quotes(self._text[begun:end], self._quote if begun == self._unit else "")
        if not halves:
            return ""
        return self._text[begun + halves[-1]] if halves[-1] >= 0 else self._quote


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _last_space(text: str, limit: int) -> int:
    """The length of the text up to and with its last white space, at most the limit."""
    if text[limit : limit + 1].isspace():
        return limit
    end = limit
    while end and not text[end - 1].isspace():
        end -= 1
    return end


def _blanks(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _blanked(text: str, offsets: Iterable[int]) -> str:
    for offset in offsets:
        text = text[:offset] + " " + text[offset + 1 :]
    return text


def _without_brackets(view: str, stop: int) -> str:
    """An engine finds no end within brackets, and not in what is only half of them."""
    opened = max(view.rfind("(", 0, stop), view.rfind("（", 0, stop))
    closed = _CLOSING_BRACKET.search(view, max(opened, 0))
    if opened < 0 or (closed and closed.start() < stop):
        return view
    return _blanked(view, (opened, closed.start()) if closed else (opened,))


def _open_quotes(text: str, before: str) -> list[int]:
    """The offsets of quotation marks that are open at the end; -1 for the one before."""
    marks = [(before, -1)] if before else []
    for found in _QUOTES.finditer(text):
        opener = _OPENER.get(found[0], found[0])
        which = [mark for mark, _ in marks]
        if opener in which:
            del marks[which.index(opener) :]
        elif found[0] not in _CLOSED_ONLY:
            marks.append((found[0], found.start()))
    return [offset for _, offset in marks]
