"""Answers without a server: `answer`, a Stream of completions, and `completion`, one of them."""

from __future__ import annotations

from ..completions.accumulator import CompletionAccumulator
from ..completions.completion_stream import CompletionStream
from ..completions.decoding import CompletionDecoder, completions
from ..completions.on_outcome import RecordedStream
from ..models import CompletionEvent
from ..wire import decode_events, events, lines
from .compiler import compile_script
from .scripted_blocks import scripted_blocks
from .steps import Step

__all__ = ["answer", "completion"]

_MODEL = "scripted"


def answer(*steps: Step | str) -> CompletionStream:
    """Steps into the Stream of completions that `client.chat.stream` returns for them.

        answer("Hel", wait(2), "lo", finish())

        --Hel--------------lo--finish-|->

    No socket is opened. The waits are timers on the scheduler of the subscription, so that an
    answer takes no time in a test with a `TestScheduler`; without a scheduler they are real.

    Args:
        steps: The steps of a script (see `rxmistral.testing.steps`); a string is a step of text.

    Emits: one `CompletionEvent` for each chunk.
    Completes: after `finish()` or `done()`, at the end of the script.
    Errors: `IncompleteStreamError` if the script has neither; `DroppedStreamError` after `drop()`
        or `abort()`; `ReportedError` after `error(...)`; `StatusError` for another `status(...)`.
    Source: none; each subscription plays the script from its beginning.

    Raises:
        TypeError, ValueError: The script cannot be played.

    >>> from reactivex.scheduler import VirtualTimeScheduler
    >>> from rxmistral import text
    >>> from rxmistral.testing import answer, finish, wait
    >>> scheduler = VirtualTimeScheduler()
    >>> stream = answer("Hel", wait(3600), "lo", finish())
    >>> _ = stream.pipe(text()).subscribe(print, scheduler=scheduler)
    >>> scheduler.start()
    Hel
    lo
    """
    script = compile_script(steps, "close", _MODEL, "scripted-0")
    stream = scripted_blocks(script).pipe(lines(), events(), completions())
    return RecordedStream(stream._subscribe_core)


def completion(step: Step | str) -> CompletionEvent:
    """Returns one item of an answer.

    Args:
        step: The text of its delta, or a step that sends one chunk.

    Raises:
        ValueError: The step does not send exactly one chunk.

    >>> completion("Hel").data.choices[0].delta.content
    'Hel'
    """
    script = compile_script([step], "close", _MODEL, "scripted-0")
    decoder = CompletionDecoder(CompletionAccumulator(bounded=True))
    blocks = [each for each in script.operations if isinstance(each, bytes)]
    found = [decoder.feed(event) for event in decode_events(blocks)]
    if len(found) != 1 or found[0] is None:
        raise ValueError(f"completion() needs a step that sends one chunk, got {step!r:.200}")
    return found[0]
