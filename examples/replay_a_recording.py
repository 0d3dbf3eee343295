"""Replay a recorded answer at twice its speed, without a network.

The file was written by `with rxmistral.testing.record("recording.jsonl"): ...`: the request, and
each block of the answer with its time. It is answered to that request only.
"""

from pathlib import Path

from rxmistral import Mistral, UserMessage
from rxmistral.testing import replay

recording = Path(__file__).with_name("recording.jsonl")

with replay(recording, speed=2) as server, Mistral(server_url=server.url) as client:
    answer = client.chat.stream(
        model="mistral-small-latest", messages=[UserMessage(content="Salue le monde.")]
    )
    for token in answer.text():
        print(token, end="", flush=True)
print()
if answer.outcome is not None:
    print(answer.outcome.usage)
