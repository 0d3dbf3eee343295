"""Characters and marks that sentence boundary detection distinguishes."""

from __future__ import annotations

import re

# --- characters, for the inside of a regular expression's brackets ----------------

STOPS = ".!?…։؝؞؟۔܀܁܂।॥၊။።፧፨᙮᠃᠉។៕‼‽⁇⁈⁉⸮。．！？｡﹒﹖﹗"
NEED_SPACE = ".!?…"  # stops that end a sentence only before white space
CLOSERS = "\"'“”’»«›‹*_~`)\\]}」』）】》〉］｝"  # directly after a stop
EMOJI = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u200d\ufe0f\u20e3\U000e0020-\U000e007f"
BULLETS = "•◦‣▪▫●○■□"
CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"  # written without white space

# --- list marks and labels before a text -----------------------------------------

_LIST_MARK = re.compile(
    r"(?!\s*[-*_]{3})[\s>*_]*"
    rf"(?:(?:[-+–{BULLETS}]|#{{1,6}}"
    r"|\(?(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxIVX]{1,5})[.)．])(?:[\s*_]+|\Z)){0,2}"
)
_LONGEST_LIST_MARK = 24
_LABEL = re.compile(  # Chapter 1. The sea
    r"(?i:[\s>#*_]{0,9}(?:Chapter|Part|Section|Act|Scene|Step|Stage|Phase|Rule|Lesson|Exercise"
    r"|Example|Question|Q|Figure|Table|Kapitel|Teil|Abschnitt|Schritt|Abbildung|Tabelle|Chapitre"
    r"|Partie|Étape|Capítulo|Parte|Paso|Passo|Capitolo|Fase)\s?(?:\d{1,3}|[IVX]{1,5})\.\s)"
)
_LONGEST_LABEL = 30


def is_list_mark(text: str, start: int, end: int) -> bool:
    """Returns whether this part of the text is nothing but the mark of a list item."""
    is_short = end - start <= _LONGEST_LIST_MARK
    return is_short and _LIST_MARK.fullmatch(text[max(start, 0) : end]) is not None


def is_label(text: str, start: int, end: int) -> bool:
    """Returns whether this part of the text is a label such as "Step 2. "."""
    is_short = end - start <= _LONGEST_LABEL
    return is_short and _LABEL.fullmatch(text, max(start, 0), end) is not None


def after_list_mark(text: str, start: int, end: int) -> int:
    """Returns the offset at which the words begin, after a list mark."""
    mark = _LIST_MARK.match(text, start, end)
    return mark.end() if mark else start


# --- references such as [1] and [^note] ------------------------------------------

REFERENCE = re.compile(r"(?:\[(?:\d{1,3}|\^[\w-]{1,30})\])+")
AFTER_REFERENCE = re.compile(r"(?:\[(?:\^[\w-]{0,30}|\d{0,3})\]?){0,8}+(?s:.)")

# --- code spans and formulas -----------------------------------------------------

_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)  # CommonMark 6.1

# Formulas, with dollars as in pandoc (extension tex_math_dollars): the opening dollar is
# before a visible character, the closing one is after one and not before a digit. A price
# or the name of a variable does not open a formula.
_FORMULA = re.compile(
    r"\$\$.*?\$\$|\\\(.*?\\\)|\\\[.*?\\\]|(?<!\\)\$(?=[^\s$])[^$\n]*(?<=[^\s\\])\$(?!\d)", re.DOTALL
)
_OPENS_FORMULA = re.compile(r"(?<!\$)\$\$(?=[^$])|\\[(\[]|(?<![\\$])\$(?=[^\s$.,;:!?)])")
_CLOSES_NOTHING = re.compile(r"[\s\\]|.\$\d")
_PRICE_OR_NAME = re.compile(
    r"\$(?:\d[\d.,]*(?:[kKMBm]|bn)?(?![\w\\^{])|[A-Za-z_]{2})(?!.*[\\^{=+<>])", re.DOTALL
)
_LONGEST_REMAINDER = 200  # characters of a formula after a stop


def _formula_end(closing: str, outside: str) -> tuple[re.Pattern[str], str]:
    inside = rf"(?!{re.escape(closing)}|{outside})(?s:.)"
    return re.compile(rf"(?:{inside}){{0,{_LONGEST_REMAINDER}}}+(?s:..)"), closing


FORMULA_ENDS = {
    "$": _formula_end("$", r"\n"),
    r"\(": _formula_end(r"\)", r"\n"),
    "$$": _formula_end("$$", r"\n[ \t]*\n"),
    r"\[": _formula_end(r"\]", r"\n[ \t]*\n"),
}
"""For each opening mark: a pattern for the text up to the closing mark, and that mark."""

DISPLAY = {"$$": re.compile(r"[$\n]"), r"\[": re.compile(r"[\]\n]")}


def is_in_code_span(before: str) -> bool:
    """Returns whether a code span is open at the end of this text."""
    return "`" in before and "`" in _CODE_SPAN.sub("", before)


def open_formula(text: str, start: int, end: int) -> str:
    """Returns the mark of a formula that may be open at the end of this part, or ""."""
    if text.find("$", start, end) < 0 and text.find("\\", start, end) < 0:
        return ""
    before = _FORMULA.sub("", _CODE_SPAN.sub("", text[start:end]))
    openings = [*_OPENS_FORMULA.finditer(before)]
    if not openings or _PRICE_OR_NAME.match(before, openings[-1].start()):
        return ""
    return openings[-1][0]


def is_formula_closed(mark: str, text: str, start: int, end: int) -> bool:
    """Returns whether the formula that this mark opened is closed in this part of the text."""
    closing = text.find(FORMULA_ENDS[mark][1], start, end)
    return closing >= 0 and (mark != "$" or not _CLOSES_NOTHING.match(text, closing - 1, end))
