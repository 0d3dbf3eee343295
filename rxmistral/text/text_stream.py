"""TextStream: a Stream of text, with the operators on text as methods.

Their types are in the stub beside this module.
"""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from ..rx.fluent import OperatorMethod, returning
from ..rx.stream import Stream

__all__ = ["TextStream"]


class TextStream(Stream[str]):
    """A Stream of text.

    ```python
    for sentence in answer.text().sentences(): ...
    ```

    Its own methods are the operators of these names: `answer.text().sentences("de")` is
    `answer.pipe(text(), sentences("de"))`.
    """

    _remedy = "call it on the answer"

    sentences = OperatorMethod("rxmistral.text.sentences.operator")
    words = OperatorMethod("rxmistral.text.words_lines")
    text_lines = OperatorMethod("rxmistral.text.words_lines")
    paragraphs = OperatorMethod("rxmistral.text.words_lines")
    code_blocks = OperatorMethod("rxmistral.text.code_blocks")
    items = OperatorMethod("rxmistral.text.structured.operators")
    partials = OperatorMethod("rxmistral.text.structured.operators")
    parsed = OperatorMethod("rxmistral.text.structured.operators")
    paced = OperatorMethod("rxmistral.text.pacing")
    coalesced = OperatorMethod("rxmistral.text.pacing")
    guarded = OperatorMethod("rxmistral.text.guard")
    join = OperatorMethod("rxmistral.text.joined")  # pyright: ignore[reportAssignmentType]  # not that of reactivex
    # By name only: its result has Mistral's types, which this layer does not know.
    think_tags = OperatorMethod("rxmistral.completions.think_tags")

    @staticmethod
    def of(observable: Observable[str]) -> TextStream:  # type: ignore[override]
        """Returns an Observable of text as a TextStream.

        Raises:
            TypeError: The argument is not an Observable.

        >>> import reactivex
        >>> list(TextStream.of(reactivex.of("Hel", "lo wor", "ld")).words())
        ['Hello ', 'world']
        """
        stream = Stream.of(observable)
        unchanged: Callable[[Observable[str]], Stream[str]] = Stream.of
        if isinstance(stream, TextStream):
            return stream
        return stream.pipe(returning(TextStream, unchanged))
