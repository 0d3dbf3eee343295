"""Speak an answer while it arrives: sentence by sentence, and a slow voice in order.

`map_async` waits for the voice before it passes the next sentence. Text that arrives meanwhile is
buffered; if the buffer is full, the server has to wait (backpressure). Leaving interrupts the voice.

Needs rxmistral[sentences].
"""

import asyncio

from rxmistral import Mistral, UserMessage


async def speak(sentence: str) -> None:
    """Stands in for a text-to-speech engine."""
    for word in sentence.split():
        print(word, end=" ", flush=True)
        await asyncio.sleep(0.02)


async def main() -> None:
    async with Mistral() as client:
        answer = client.chat.stream(
            model="mistral-small-latest", messages=[UserMessage(content="Tell me a short story.")]
        )
        # Speak unfinished text if the model pauses for half a second, and cut long sentences.
        await answer.text().sentences(max_wait=0.5, max_chars=300).map_async(speak)
    print()


asyncio.run(main())
