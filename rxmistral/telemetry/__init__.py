"""OpenTelemetry for the answers and tools of a client; requires `pip install rxmistral[otel]`.

    the program's own span
    ├── chat mistral-small-latest      one answer, with all its retries and resumes
    │   ├── POST                       its requests, if something traces those of `requests`
    │   └── POST
    ├── execute_tool weather           a tool call of a run
    └── chat mistral-small-latest      the next answer of the run

    from rxmistral.telemetry import OpenTelemetry

    client = Mistral(telemetry=OpenTelemetry())

A span begins when an answer is subscribed to, and its parent is the current span of the
subscriber. It ends with the answer, whatever the ending; a failure has `error.type`: the HTTP
status of a refusal, else the class of the error. An answer that the reader left is not a failure.

The histograms are `gen_ai.client.operation.duration`, `gen_ai.client.operation.time_to_first_chunk`
and `gen_ai.client.operation.time_per_output_chunk`, in seconds, and `gen_ai.client.token.usage`.
Prompts, answers and texts that may quote them are left out unless `capture_content` is True.

    spans          OpenTelemetry, and the span of an answer
    histograms     the measurements
    attributes     requests and outcomes to attributes of spans
    messages       requests and answers to the content of spans
    names          the semantic conventions for generative AI: names of attributes and metrics
"""

from .spans import OpenTelemetry

__all__ = ["OpenTelemetry"]
