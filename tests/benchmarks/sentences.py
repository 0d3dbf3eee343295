"""Measures `sentences()`: exactness, latency, speed and growth.

    python tests/benchmarks/sentences.py

Needs the extra `rxmistral[sentences]`. Compares with stream2sentence if that is installed.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

import reactivex

from rxmistral.text.sentences.cutter import SentenceCutter
from rxmistral.text.sentences.operator import sentences
from rxmistral.text.sentences.segmenters import default_segmenter

sys.path.insert(0, str(Path(__file__).parents[1] / "text" / "sentences"))

import sentence_texts as texts  # on the path that is added above

try:
    from stream2sentence import generate_sentences
except ImportError:
    generate_sentences = None

GROUPS = {
    "English": texts.ENGLISH,
    "Markdown": texts.MARKDOWN,
    "newlines": texts.NEWLINES,
    "German": texts.GERMAN,
    "Romance": texts.ROMANCE,
    "Chinese, Japanese": texts.CHINESE_AND_JAPANESE,
    "abbreviations": texts.ABBREVIATIONS,
    "formulas": texts.FORMULAS,
}


def deltas(text: str) -> Iterator[str]:
    """Yields the text in pieces of 3 to 5 characters, the same ones in each run."""
    random_lengths, start = random.Random(text[:1000]), 0
    while start < len(text):
        end = start + random_lengths.randint(3, 5)
        yield text[start:end]
        start = end


def by_us(case: texts.Case) -> list[tuple[int, str]]:
    """Returns the sentences, each with the number of characters received before it."""
    cutter = SentenceCutter(default_segmenter(case.language))
    received, found = 0, []
    for delta in deltas(case.text):
        received += len(delta)
        found += [(received, sentence) for sentence in cutter.feed(delta)]
    return found + [(received, sentence) for sentence in cutter.close()]


def exactness() -> None:
    late: list[int] = []
    for name, cases in GROUPS.items():
        exact = wrong = cuts = 0
        for case in cases:
            found = by_us(case)
            exact += [sentence for _, sentence in found] == case.sentences
            ends = list(accumulate(len(sentence) for _, sentence in found))
            wanted = list(accumulate(map(len, case.sentences)))
            wrong += len(set(ends) - set(wanted))
            cuts += len(ends)
            late += lateness(found)
        print(f"{name:18} exact {exact}/{len(cases)} = {exact / len(cases):.1%}", end="   ")
        print(f"wrong cuts {wrong}/{cuts}")
    late.sort()
    print(f"late by {statistics.median(late)} characters, 95 % by {late[len(late) * 95 // 100]}")


def lateness(found: list[tuple[int, str]]) -> list[int]:
    """Returns the characters from the end of each sentence but the last to its emission."""
    late, end = [], 0
    for received, sentence in found[:-1]:
        late.append(received - end - len(sentence.rstrip()))
        end += len(sentence)
    return late


def in_a_chain(pieces: list[str]) -> float:
    source = reactivex.from_iterable(pieces).pipe(sentences())
    return _seconds(lambda: source.subscribe(lambda _: None))


def by_stream2sentence(pieces: list[str]) -> float:
    return _seconds(lambda: list(generate_sentences(iter(pieces))))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


PROSE = "\n\n".join(case.text.strip() for case in texts.ENGLISH) + "\n\n"
KINDS = {
    "prose": PROSE * 20,
    "code": "So:\n\n```python\n" + "def f(x):\n    return x.y + 1.5  # Done. Ok.\n\n" * 3000,
    "no stops": "word " * 20_000,
    "e.g.": "e.g. " * 20_000,
    "dots": "." * 100_000,
    "quotes": '"a. ' * 25_000,
    "blanks": "Hi." + " " * 100_000,
    "Chinese": "今天天气很好。" * 15_000,
}


def speed() -> None:
    pieces = list(deltas((PROSE * 20)[:50_000]))
    ours = min(in_a_chain(pieces) for _ in range(3))
    print(
        f"50 kB of prose in a chain: {ours * 1e3:.0f} ms, {ours / len(pieces) * 1e6:.1f} us a delta"
    )
    if generate_sentences is not None:
        theirs = by_stream2sentence(pieces)
        print(f"stream2sentence: {theirs * 1e3:.0f} ms, {theirs / ours:.0f} times as long")
    for name, text in KINDS.items():
        half, whole = list(deltas(text[:50_000])), list(deltas(text[:100_000]))
        once = min(in_a_chain(half) for _ in range(3))
        twice = min(in_a_chain(whole) for _ in range(3))
        print(
            f"{name:10} 50 kB {once * 1e3:6.1f} ms   100 kB {twice * 1e3:6.1f} ms   {twice / once:.2f}"
        )


if __name__ == "__main__":
    exactness()
    speed()
