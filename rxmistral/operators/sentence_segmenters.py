"""Who knows where a sentence ends: the engines that `sentences()` asks.

An engine is anything with `boundaries(text)`. The one that comes with the extra
`rxmistral[sentences]` is sentencex, which Wikimedia keeps for 40 languages and which
falls back sensibly in others; two adapters make one of any function that cuts a whole
text, into spans or into strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Protocol

try:
    from sentencex import segment  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports,reportAttributeAccessIssue]
except ImportError:  # an extra: it has no wheel for some platforms
    segment = None

__all__ = ["SentenceSegmenter", "SpanSegmenter", "StringSegmenter", "default_segmenter"]


class SentenceSegmenter(Protocol):
    """Whatever finds the ends of sentences in a text."""

    def boundaries(self, text: str) -> Iterable[int]:
        """The offsets, in characters, at which a sentence ends, in ascending order.

        The white space after a sentence may be counted to it or not. `text` begins with
        a sentence and ends shortly after a stop; it is short, and asked for once or
        twice for each stop.
        """
        ...


class SpanSegmenter:
    """A segmenter from a function that gives the `(start, end)` of each sentence.

    >>> list(SpanSegmenter(lambda text: [(0, 3), (4, 7)]).boundaries("Hi. Ho."))
    [3, 7]
    """

    def __init__(self, spans: Callable[[str], Iterable[tuple[int, int]]]) -> None:
        self._spans = spans

    def boundaries(self, text: str) -> Iterable[int]:
        return (end for _, end in self._spans(text))


class StringSegmenter:
    """A segmenter from a function that gives the sentences themselves.

    They may lack the white space around them. From a sentence on that is not in the
    text, having been rewritten, no boundary is found.

    >>> list(StringSegmenter(lambda text: ["Hi.", "Ho."]).boundaries("Hi. Ho."))
    [3, 7]
    """

    def __init__(self, split: Callable[[str], Iterable[str]]) -> None:
        self._split = split

    def boundaries(self, text: str) -> Iterable[int]:
        end = 0
        for sentence in self._split(text):
            start = text.find(sentence, end)
            if start < 0:
                return
            end = start + len(sentence)
            yield end


def default_segmenter(language: str) -> SentenceSegmenter:
    """The engine of the extra `sentences`, for a language such as "en"."""
    if segment is None:
        raise ModuleNotFoundError(
            "where a sentence ends is found by the package sentencex, which is not installed: "
            "type  pip install 'rxmistral[sentences]'  or pass a segmenter of your own",
            name="sentencex",
        )
    return _Sentencex(segment, language)


# sentencex is written in Rust. It reads UTF-8, which has no surrogates; 1.0.32 cuts
# within a character, and panics, where a capital stands before white space of more than
# one byte and a stop; and it does not take "…" for a stop. It is shown a text of the
# same length without these, and only lengths are taken from its answer.
#
# So it can be told more: a full stop that ends nothing is shown as a comma, and one that
# it would take for an abbreviation's, wrongly, as a question mark.
_UNFIT = re.compile(r"[^\S ]|[\ud800-\udfff]|…")
_NO_END, _END = ",", "?"

# What may follow a full stop. Each is matched at the first letter or digit after it, which
# may be all that has come (`\Z`): what it cannot tell then must end nothing, for the
# question comes again with the whole word.
_ANY = re.compile("")
_NUMBER = re.compile(r"\d")
_SMALL = re.compile(r"[a-zß-öø-ÿ]")
_CAPITAL = re.compile(r"[A-ZÀ-ÖØ-Þ]")
_LETTER = re.compile(r"[^\W\d_]")
_INITIAL = re.compile(r"[A-Z](?!\w)")
_ROMAN = re.compile(r"[IVXLC](?:\Z|[IVXLC]*\b)")
_DATE = re.compile(r"\d|[JFMASOND](?:\Z|(?:an|eb|ar|pr|ay|u[nl]|ug|ep|ct|ov|ec)[a-z]*\b)")
_ZONE = re.compile(
    r"(?:[ECMP][DS]?T|UTC|GMT|BST|CES?T|IST|(?:East|West)ern|Pacific|Central|Mountain"
    r"|Greenwich|(?:Mon|Tues|Wednes|Thurs|Fri)day|(?:Satur|Sun)day)\b"
)


def _opens_with(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{words.replace(' ', '|')})\b(?![.]|\Z)")


# Words that begin a sentence where they have a capital, unlike nouns and names.
_OPENERS = {
    "de": _opens_with(
        "Der Die Das Dem Den Des Diese Dieser Dieses Ein Eine Einen Einer Kein Keine Alle Alles "
        "Ich Du Er Sie Es Wir Ihr Man Mein Meine Sein Seine Unser Unsere Und Aber Oder Doch Denn "
        "Dann Danach Dabei Dafür Darum Deshalb Daher So Nun Jetzt Hier Da Dort Wenn Weil Als Ob "
        "Im In Am An Auf Aus Bei Mit Nach Vor Von Zu Zum Zur Für Bis Auch Nur Noch Schon Heute "
        "Bitte Was Wer Wie Wo Warum Ist Sind Hat Wird"
    ),
    "fr": _opens_with(
        "Le La Les L Un Une Des Ce C Cet Cette Ces Il Elle On Nous Vous Ils Elles Je J Tu Mon Ma "
        "Son Sa Et Mais Ou Donc Puis Ensuite Alors Ainsi Dans En Avec Pour Par Sur Si Quand Comme "
        "Tout Pourquoi Voici"
    ),
    "es": _opens_with(
        "El La Los Las Un Una Este Esta Esto Estos Estas Yo Tú Él Ella Ellos Nosotros Usted Mi Su "
        "Sus Y Pero No Se Si En Con Por Para Luego Después Además También Allí Ahora Hoy Es Son"
    ),
    "it": _opens_with(
        "Il Lo La L I Gli Le Un Uno Una Questo Questa Io Tu Lui Lei Noi Voi Loro Mio Mia Suo Sua È "
        "E Ma Se Non Si In Con Per Da Di Su Poi Quindi Inoltre Anche Ora Oggi Quando Come Sono"
    ),
    "pt": _opens_with(
        "O A Os As Um Uma Este Esta Isto Isso Eu Tu Ele Ela Eles Elas Nós Você Meu Minha Seu Sua "
        "E Mas Se Não Em No Na Com Por Para Depois Então Também Agora Hoje Quando Como É São"
    ),
}

# Words before a full stop that the lists of sentencex lack, or have and should not. In
# the first column "mr" is "Mr" too; what is to end a sentence is as it is written.
_WORDS: dict[str, list[tuple[str, re.Pattern[str], str]]] = {
    "en": [
        ("mr mrs ms messrs dr drs prof profs approx avg incl excl", _ANY, _NO_END),
        ("eq eqs vol vols attn INT EXT INT./EXT", _ANY, _NO_END),
        ("max min tel fax est ch app apt rm ed par para figs ext", _NUMBER, _NO_END),
        ("Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun", _DATE, _NO_END),
        ("a.m p.m am pm A.M P.M AM PM", _ZONE, _NO_END),
        ("dir", _INITIAL, _NO_END),
        ("tsp tbsp pkg lg oz lb lbs pt qt gal ft yd mi mph sec min hr hrs", _SMALL, _NO_END),
        ("etc sec min hr hrs no No", _CAPITAL, _END),
        ("ok Ok OK id ID me may ill miss ore con art exec fed mm cal rep reps", _LETTER, _END),
        ("op ref gen ext del loc i j k x y z", _LETTER, _END),
    ],
    "de": [
        ("usw usf etc Std Min Sek Mio Mrd Tsd Str Jh Jhd Art", _OPENERS["de"], _END),
        ("ok Ok OK dir mag", _CAPITAL, _END),
        ("abb bd dipl.-ing fa gebr hr hrn frl hrsg jh jhd kap str tel tsd vgl", _ANY, _NO_END),
        ("bspw insb insbes inkl exkl einschl ausschl zzgl resp allg max", _ANY, _NO_END),
        ("geb gegr verh teilw dt engl franz ital span", _ANY, _NO_END),
    ],
    "fr": [
        ("J.-C art ex", _OPENERS["fr"], _END),
        ("etc sec min", _CAPITAL, _END),
        ("J.-C M MM Mme Mmes Mlle Mlles Me Mgr Dr Drs D Pr Prof Ste St Cie", _ANY, _NO_END),
        ("bd cf env fig vol chap réf", _ANY, _NO_END),
        ("pag n no art max min janv févr avr juil sept oct nov déc", _NUMBER, _NO_END),
    ],
    "es": [
        ("UU", _OPENERS["es"], _END),
        ("etc min seg no No ok Ok OK bien auto contra entre para sobre super", _CAPITAL, _END),
        ("mini mega extra mono anti ex ultra trans retro pro kg km cm mm", _CAPITAL, _END),
        ("sr sra sres sras dr dra dres prof profa dña mtro mtra mons ilmo", _ANY, _NO_END),
        ("D pdte pdta cnel ud uds aprox pág págs cap vol cía", _ANY, _NO_END),
        ("n núms arts inc ref séc ed cód ene feb", _NUMBER, _NO_END),
    ],
    "pt": [
        ("vi op", _CAPITAL, _END),
        ("sr sra srs sras srta dr dra D prof profa eng arq av pe gov dep", _ANY, _NO_END),
        ("exma ilmo aprox p pág págs cap vol séc tel obs", _ANY, _NO_END),
        ("n núm fig figs art arts inc ref ed máx mín jan fev mar abr jun", _NUMBER, _NO_END),
        ("jul ago set out nov dez", _NUMBER, _NO_END),
    ],
    "it": [
        ("dott.ssa prof.ssa sig.ra sig.na arch pag pagg fig cap vol sez ten", _ANY, _NO_END),
        ("n nn art artt tab cell tot", _NUMBER, _NO_END),
        ("sec", _ROMAN, _NO_END),
        ("ecc sec min", _CAPITAL, _END),
    ],
}

# The list of Italian holds every acronym that there is, and with them "no" and "via". Of
# it, these stand before a capital.
_ITALIAN = re.compile(
    "(?i:sigg?|dott|dr|prof|avv|ing|arch|geom|rag|on|sen|gen|col|cap|ten|mons|don|figg?|pagg?|pp"
    "|artt?|nn|nr|voll?|cfr|es|eds?|tel|cell|ca|sez|tab|cit|op|ibid|egr|gent|spett|ill|rev|mrs?"
    "|st|ss|lit|segg?|sec)"
)

_FULL_STOP = re.compile(r"(?<![\w.])([^\W_][\w./-]*)\.(?=[^\w\s]{0,8}\s{1,8}[^\w\s]{0,8}(\w?))")
_FILE_NAME = re.compile(r"(?a:[\w-]{2,}\.[a-z]{2,4})")
_INITIALS = re.compile(r"[A-Z]\.-[A-Z]")
_GERMAN_ORDINAL = re.compile(
    r"\b((?:[AaIi]m|[Dd](?:as|e[mnrs]|ie)|[Vv]om|[Zz]u[mr]|[Bb]eim|[Ss]eit|[Aa]b|[Bb]is"
    r"|[Jj]ede[mnrs]?|(?:[Ee]|[MmDdSs]e|[Kk]e)ine?[mnrs]?|(?:[Ii]hr|[Uu]nser)e?[mnrs]?)"
    r"\s\d{1,3})\.(?=\s)"
)


class _Sentencex:
    def __init__(self, segment: Callable[[str, str], list[str]], language: str) -> None:
        self._segment = segment
        self._language = language
        self._kind = language.partition("-")[0]
        self._openers = _OPENERS.get(self._kind)  # sentencex has those of English
        self._words = _by_word(_WORDS.get(self._kind, []))

    def boundaries(self, text: str) -> Iterable[int]:
        try:
            pieces = self._segment(self._language, self._shown(text))
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            return ()  # a bug in there must not end the answer: no boundary is found
        return accumulate(map(len, pieces))

    def _shown(self, text: str) -> str:
        if self._kind == "de":
            text = _GERMAN_ORDINAL.sub(rf"\1{_NO_END}", text)
        return _UNFIT.sub(_fit, _FULL_STOP.sub(self._judge, text))

    def _judge(self, found: re.Match[str]) -> str:
        word, text, following = found[1], found.string, found.start(2)
        for before, shown in self._words.get(word, ()):
            if before.match(text, following):
                return word + shown
        if not _CAPITAL.match(text, following):
            return found[0]
        if _INITIALS.fullmatch(word):
            return word + _NO_END
        if self._openers and len(word) == 1 and word.isupper():
            return word + (_END if self._openers.match(text, following) else _NO_END)
        return word + _END if self._is_no_abbreviation(word) else found[0]

    def _is_no_abbreviation(self, word: str) -> bool:
        if self._kind == "it" and len(word) > 1 and word.isalpha():
            return _ITALIAN.fullmatch(word) is None
        return "/" in word or _FILE_NAME.fullmatch(word) is not None


def _by_word(
    rows: list[tuple[str, re.Pattern[str], str]],
) -> dict[str, list[tuple[re.Pattern[str], str]]]:
    found: dict[str, list[tuple[re.Pattern[str], str]]] = {}
    for words, before, shown in rows:
        for word in words.split():
            for spelled in {word, word[:1].upper() + word[1:]} if shown == _NO_END else {word}:
                found.setdefault(spelled, []).append((before, shown))
    return found


def _fit(found: re.Match[str]) -> str:
    if found[0] == "…":
        return _END
    return " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}"
