"""CompletionStream: a Stream of completions, with the operators on completions as methods.

Their types are in the stub beside this module.
"""

from __future__ import annotations

from ..models import CompletionEvent
from ..rx.fluent import OperatorMethod
from ..rx.stream import Stream

__all__ = ["CompletionStream"]


class CompletionStream(Stream[CompletionEvent]):
    """A Stream of the completions of an answer.

    Its own methods are the operators of these names: `answer.text()` is `answer.pipe(text())`.
    """

    _remedy = "call text() first"

    text = OperatorMethod("rxmistral.completions.choice")
    thinking = OperatorMethod("rxmistral.completions.choice")
    parts = OperatorMethod("rxmistral.completions.parts")
    deltas = OperatorMethod("rxmistral.completions.choice")
    tool_calls = OperatorMethod("rxmistral.completions.tool_calls")
    usage = OperatorMethod("rxmistral.completions.response")
    finish_reason = OperatorMethod("rxmistral.completions.response")
    to_response = OperatorMethod("rxmistral.completions.response")
    snapshots = OperatorMethod("rxmistral.completions.response")
    until_finished = OperatorMethod("rxmistral.completions.finish")
    on_outcome = OperatorMethod("rxmistral.completions.on_outcome")
