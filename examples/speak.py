"""Speak an answer while it comes: a slow voice loses no sentence and takes them in turn.

The loop asks for a sentence when it has spoken the one before. What comes meanwhile
waits for it; if much does, the server is made to wait, too.
"""

import time

from rxmistral import Mistral, UserMessage, sentences, text


def speak(sentence: str) -> None:
    """In place of a voice."""
    for word in sentence.split():
        print(word, end=" ", flush=True)
        time.sleep(0.02)


with Mistral() as client:
    answer = client.chat.stream(
        model="mistral-small-latest",
        messages=[UserMessage(content="Tell me a short story.")],
    )
    # A pause of the model is no reason to be silent, nor has a voice endless breath.
    for sentence in answer.pipe(text(), sentences(max_wait=0.5, max_chars=300)):
        speak(sentence)
print()
