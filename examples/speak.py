"""Speak an answer while it arrives: a slow voice speaks every sentence, in order.

The loop reads a sentence when it has spoken the previous one. Text that arrives meanwhile is
buffered; if the buffer is full, the server has to wait (backpressure).

Needs rxmistral[sentences].
"""

import time

from rxmistral import Mistral, UserMessage, sentences, text


def speak(sentence: str) -> None:
    """Stands in for a text-to-speech engine."""
    for word in sentence.split():
        print(word, end=" ", flush=True)
        time.sleep(0.02)


with Mistral() as client:
    answer = client.chat.stream(
        model="mistral-small-latest",
        messages=[UserMessage(content="Tell me a short story.")],
    )
    # Speak unfinished text if the model pauses for half a second, and cut long sentences.
    for sentence in answer.pipe(text(), sentences(max_wait=0.5, max_chars=300)):
        speak(sentence)
print()
