"""The histograms of a client: each answer adds to them once, when it ends."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter

from ..models import UsageInfo
from ..outcome import Outcome
from . import names
from .attributes import Attributes

__all__ = ["Histograms"]

# The bucket boundaries of the conventions.
_SECONDS = [0.01 * 2**power for power in range(14)]
_TOKENS = [4**power for power in range(14)]


class Histograms:
    """The histograms of a meter, to which each answer adds."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, description: str) -> Histogram:
            return _histogram(meter, name, "s", description, _SECONDS)

        self._duration = seconds(names.OPERATION_DURATION, "Duration of an answer.")
        self._time_to_first_chunk = seconds(
            names.TIME_TO_FIRST_CHUNK, "Time to the first text, thinking or tool call."
        )
        self._time_per_output_chunk = seconds(
            names.TIME_PER_OUTPUT_CHUNK, "Time from chunk to chunk, the mean of an answer."
        )
        self._token_usage = _histogram(
            meter, names.TOKEN_USAGE, "{token}", "Tokens of the input and of the output.", _TOKENS
        )

    def record(
        self,
        outcome: Outcome,
        seconds: float,
        outputs: int,
        attributes: Attributes,
        context: Context,
    ) -> None:
        """Adds the measurements of one answer.

        Args:
            outcome: How the answer ended.
            seconds: Seconds from the subscription to the end of the answer.
            outputs: The number of pieces of text, thinking and tool calls that were received.
            attributes: The attributes of each measurement.
            context: A context with the span of the answer, to which exemplars refer.
        """
        self._duration.record(seconds, attributes, context)
        first, last = outcome.seconds_to_first_token, outcome.seconds_to_last_token
        if first is not None:
            self._time_to_first_chunk.record(first, attributes, context)
        if first is not None and last is not None and outputs > 1:
            mean = (last - first) / (outputs - 1)
            self._time_per_output_chunk.record(mean, attributes, context)
        usage = outcome.usage or UsageInfo()
        tokens = {"input": usage.prompt_tokens, "output": usage.completion_tokens}
        for kind, count in tokens.items():
            if count is not None:
                of_kind = {**attributes, names.TOKEN_TYPE: kind}
                self._token_usage.record(count, of_kind, context)


def _histogram(
    meter: Meter, name: str, unit: str, description: str, boundaries: Sequence[float]
) -> Histogram:
    return meter.create_histogram(
        name, unit, description, explicit_bucket_boundaries_advisory=boundaries
    )
