"""The measurements of answers."""

from __future__ import annotations

from typing import Any

import pytest
from faces import Face
from traces import MESSAGES, Traces

from rxmistral.testing import Script, ScriptedServer, steps

DURATION = "gen_ai.client.operation.duration"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
OUTPUT_CHUNK = "gen_ai.client.operation.time_per_output_chunk"
TOKENS = "gen_ai.client.token.usage"
COMMON = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "mistral_ai",
    "gen_ai.request.model": "m",
    "server.address": "127.0.0.1",
}
WHOLE: Script = [steps.role(), "a", "b", "c", steps.finish(usage=(9, 3)), steps.done()]


def measure(traces: Traces, script: Script, read: Any) -> dict[str, list[Any]]:
    with ScriptedServer(script) as server, traces.client(server) as client:
        read(client.chat.stream(model="m", messages=MESSAGES).text())
    return traces.measurements()


def test_answer_is_measured_once(traces: Traces, read: Face) -> None:
    measured = measure(traces, WHOLE, read)
    for name in (DURATION, FIRST_CHUNK, OUTPUT_CHUNK):
        (point,) = measured[name]
        assert (point.count, dict(point.attributes)) == (1, COMMON)
    sums = {point.attributes["gen_ai.token.type"]: point.sum for point in measured[TOKENS]}
    assert sums == {"input": 9, "output": 3}
    assert all(dict(point.attributes).items() >= COMMON.items() for point in measured[TOKENS])
    assert measured[FIRST_CHUNK][0].sum <= measured[DURATION][0].sum


def test_time_per_chunk_is_the_mean_of_an_answer(traces: Traces) -> None:
    script: Script = ["a", steps.wait(0.1), "b", "c", steps.finish(), steps.done()]
    ((point,),) = [measure(traces, script, list)[OUTPUT_CHUNK]]
    assert point.count == 1
    assert 0.04 < point.sum < 0.5 * traces.measurements()[DURATION][0].sum + 0.01


@pytest.mark.parametrize(
    ("script", "error_type"),
    [([steps.status(401)], "401"), (["a", steps.drop()], "DroppedStreamError")],
    ids=["refused", "dropped"],
)
def test_failure_is_measured_with_its_type(
    traces: Traces, read: Face, script: Script, error_type: str
) -> None:
    (point,) = measure(traces, script, read)[DURATION]
    assert (point.count, dict(point.attributes)) == (1, {**COMMON, "error.type": error_type})


def test_answer_without_output_has_a_duration_only(traces: Traces) -> None:
    script: Script = [steps.role(), steps.finish(), steps.done()]
    assert measure(traces, script, list).keys() == {DURATION}


def test_left_answer_is_not_a_failure(traces: Traces) -> None:
    measured = measure(traces, ["a", steps.hang()], lambda stream: next(iter(stream)))
    (point,) = measured[DURATION]
    assert (point.count, dict(point.attributes)) == (1, COMMON)


def test_buckets_and_units_are_those_of_the_conventions(traces: Traces) -> None:
    measured = measure(traces, WHOLE, list)
    seconds = [
        0.01,
        0.02,
        0.04,
        0.08,
        0.16,
        0.32,
        0.64,
        1.28,
        2.56,
        5.12,
        10.24,
        20.48,
        40.96,
        81.92,
    ]
    for name in (DURATION, FIRST_CHUNK, OUTPUT_CHUNK):
        assert [*measured[name][0].explicit_bounds] == seconds
    tokens = [*measured[TOKENS][0].explicit_bounds]
    assert (tokens[0], tokens[-1], len(tokens)) == (1, 67108864, 14)
    units = traces.units()
    assert units == dict.fromkeys((DURATION, FIRST_CHUNK, OUTPUT_CHUNK), "s") | {TOKENS: "{token}"}


def test_joined_pieces_of_a_long_answer_are_counted(traces: Traces) -> None:
    pieces = 3000
    script: Script = [*["x" * 200] * pieces, steps.wait(0.05), "y", steps.finish(), steps.done()]
    measured = measure(traces, script, list)
    (point,), (duration,) = measured[OUTPUT_CHUNK], measured[DURATION]
    assert point.sum <= duration.sum / pieces
