"""Replay a recorded answer from a file, without a network."""

from pathlib import Path

import reactivex

from rxmistral import Stream, completions, text
from rxmistral.wire import events, lines

recording = Path(__file__).with_name("recording.sse").read_bytes()

answer = Stream.of(reactivex.of(recording)).pipe(lines(), events(), completions())

for token in answer.pipe(text()):
    print(token, end="")
print()
print(answer.last().run().data.usage)
