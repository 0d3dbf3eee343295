"""PartStream: a Stream of the parts of several answers, with methods for their texts and totals."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from threading import Lock
from typing import Self, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from ..checks import check_callback
from ..completions.parts import AnswerEnded, Part, TextDelta, ThinkingDelta, ToolCallReady
from ..models import ToolCall, UsageInfo
from ..outcome import Outcome
from ..rx.fluent import returning
from ..rx.state_machine import item_operator, operate
from ..rx.stream import Stream
from ..text.text_stream import TextStream

__all__ = ["PartStream", "texts_of"]

B = TypeVar("B")


class PartStream(Stream[Part]):
    """A Stream of the parts of a run: of answers, and of the tool calls between them.

    Its methods are the methods of one answer that also make sense for several answers. The others,
    such as `deltas()`, need completions, which a run does not emit.
    """

    _remedy = "a run emits parts, and has text(), thinking(), tool_calls() and usage()"

    def text(self) -> TextStream:
        """Returns the text of all answers, as it arrives."""
        return self.pipe(texts_of(TextDelta))

    def thinking(self) -> TextStream:
        """Returns the reasoning of all answers, as it arrives."""
        return self.pipe(texts_of(ThinkingDelta))

    def tool_calls(self) -> Stream[ToolCall]:
        """Returns the complete tool calls of all answers."""
        return self.pipe(
            _chosen(lambda part: part.call if isinstance(part, ToolCallReady) else None)
        )

    def usage(self) -> Stream[UsageInfo]:
        """Returns the usage of all answers together, at the end; nothing if none was reported."""
        return self.pipe(
            _chosen(lambda part: part.usage if isinstance(part, AnswerEnded) else None)
        )

    def finish_reason(self) -> Stream[str]:
        """Returns the reason why the last answer ended, at the end."""
        return self.pipe(
            _chosen(lambda part: part.finish_reason if isinstance(part, AnswerEnded) else None)
        )

    def parts(self) -> Self:
        """Returns this Stream, as one answer returns its parts."""
        return self

    def on_outcome(self, callback: Callable[[Outcome], object]) -> PartStream:
        """Returns the same parts; a callback receives the outcome of the run, once.

        Args:
            callback: Called with the `Outcome`, however the run ends: before the completion or
                the error is emitted, on the same thread; or by `dispose()`, on the thread that
                disposes. An exception that it raises at a completion or an error becomes the
                error of the Stream.
        """
        check_callback("callback", callback)

        def subscribe_to(
            stream: Stream[Part],
            observer: abc.ObserverBase[Part],
            scheduler: abc.SchedulerBase | None,
        ) -> abc.DisposableBase:
            first_report = Lock()  # never released, so that only one report acquires it

            def report() -> None:
                outcome = self.outcome
                if outcome is not None and first_report.acquire(blocking=False):
                    callback(outcome)

            def end(error: Exception | None = None) -> None:
                try:
                    report()
                except Exception as raised:
                    error = raised
                if error is None:
                    observer.on_completed()
                else:
                    observer.on_error(error)

            context = copy_context()  # dispose() may be called on any thread
            subscription = stream.subscribe(observer.on_next, end, end, scheduler=scheduler)
            return CompositeDisposable(subscription, Disposable(lambda: context.run(report)))

        return self.pipe(returning(PartStream, operate(subscribe_to)))


def texts_of(
    kind: type[TextDelta] | type[ThinkingDelta],
) -> Callable[[Observable[Part]], TextStream]:
    """Returns an operator: parts into the texts of one kind of them."""
    return returning(
        TextStream, _chosen(lambda part: part.text if isinstance(part, kind) else None)
    )


def _chosen(choose: Callable[[Part], B | None]) -> Callable[[Observable[Part]], Stream[B]]:
    """Returns an operator: parts into the results of a function; None is left out."""

    def start(observer: abc.ObserverBase[B]) -> Callable[[Part], None]:
        def on_next(part: Part) -> None:
            chosen = choose(part)
            if chosen is not None:
                observer.on_next(chosen)

        return on_next

    return item_operator(start)
