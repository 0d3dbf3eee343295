"""Repeat a request that failed, and continue an answer that broke: one seamless text."""

import sys

from rxmistral import Mistral, MistralError, Resume, Retry, StreamError, UserMessage
from rxmistral.testing import Script, ScriptedServer, steps

# A service that is busy at first, then cuts an answer off, and then works.
BUSY: Script = [steps.status(503, body={"message": "busy"})]
CUT_OFF: Script = [steps.role(), "One, ", "two, ", steps.drop()]
WORKING: Script = ["One, two, ", "three, ", "four, five.", steps.finish()]


def on_retry(error: MistralError, attempt: int, wait: float) -> None:
    print(f"request {attempt}: {error}; again in {wait:.1f} s", file=sys.stderr)


def on_resume(error: StreamError, number: int) -> None:
    print(f"{error}; continuing, number {number}", file=sys.stderr)


with (
    ScriptedServer(BUSY, CUT_OFF, WORKING) as service,
    Mistral(
        server_url=service.url,
        retry=Retry(initial=0.1, jitter=0, on_retry=on_retry),
        resume=Resume(on_resume=on_resume),
    ) as client,
):
    answer = client.chat.stream(
        model="mistral-small-latest", messages=[UserMessage(content="Count to five.")]
    )
    for token in answer.text():
        print(token, end="", flush=True)
    print()

    outcome = answer.outcome
    assert outcome is not None
    print(f"{outcome.status}: {outcome.requests} requests, {outcome.resumed} of them to continue")
