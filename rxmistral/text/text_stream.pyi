# The types of text_stream.py, in a stub because the operators return TextStreams, and think_tags
# belongs to a higher layer. `method_of` takes the parameters and the result from the operator.

from reactivex import Observable

from ..completions import think_tags as _think_tags
from ..rx.fluent import method_of
from ..rx.stream import Stream
from . import code_blocks as _code_blocks
from . import guard as _guard
from . import joined as _joined
from . import pacing as _pacing
from . import words_lines as _words_lines
from .sentences import operator as _sentences
from .structured import operators as _structured

__all__ = ["TextStream"]

class TextStream(Stream[str]):
    @staticmethod
    def of(observable: Observable[str]) -> TextStream: ...  # type: ignore[override]
    @method_of(_sentences.sentences)
    def sentences(self) -> None: ...
    @method_of(_words_lines.words)
    def words(self) -> None: ...
    @method_of(_words_lines.text_lines)
    def text_lines(self) -> None: ...
    @method_of(_words_lines.paragraphs)
    def paragraphs(self) -> None: ...
    @method_of(_code_blocks.code_blocks)
    def code_blocks(self) -> None: ...
    @method_of(_pacing.paced)
    def paced(self) -> None: ...
    @method_of(_pacing.coalesced)
    def coalesced(self) -> None: ...
    @method_of(_guard.guarded)
    def guarded(self) -> None: ...
    @method_of(_joined.join)
    def join(self) -> None: ...  # type: ignore[override]
    @method_of(_think_tags.think_tags)
    def think_tags(self) -> None: ...
    @method_of(_structured.items)
    def items(self) -> None: ...
    @method_of(_structured.partials)
    def partials(self) -> None: ...
    @method_of(_structured.parsed)
    def parsed(self) -> None: ...
