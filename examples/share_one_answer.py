"""Share one answer: a late viewer reads all of it, and a viewer that leaves stops nothing."""

import asyncio

from rxmistral import Mistral, UserMessage

client = Mistral()
answer = client.chat.stream(
    model="mistral-small-latest",
    messages=[UserMessage(content="Why is the sky blue?")],
)
tokens = answer.text().shared(linger=30)


async def watch(name: str) -> None:
    read = "".join([token async for token in tokens])
    print(f"{name} read {read!r}")


async def watch_on_a_loop() -> None:
    await asyncio.gather(watch("Ada"), watch("Ben"))


for token in tokens:
    print("the first viewer leaves after:", token)
    break  # an unshared Stream would be cancelled; this one waits 30 seconds for viewers

asyncio.run(watch_on_a_loop())

# The answer has ended, and can still be read: as one text, and from any item on.
print("Cleo read", *tokens.view("merge"))
print("Dan continues with", *(entry.item for entry in tokens.entries(after=2)))
