"""Ask once, let many watch: one who comes late reads all of it, one who leaves stops nothing."""

import asyncio

from rxmistral import Mistral, UserMessage, text

client = Mistral()
answer = client.chat.stream(
    model="mistral-small-latest",
    messages=[UserMessage(content="Why is the sky blue?")],
)
tokens = answer.pipe(text()).shared(linger=30)


async def watch(name: str) -> None:
    read = "".join([token async for token in tokens])
    print(f"{name} read {read!r}")


async def watch_on_a_loop() -> None:
    await asyncio.gather(watch("Ada"), watch("Ben"))


for token in tokens:
    print("the first one has seen enough after:", token)
    break  # a Stream would be cancelled here; this goes on, for who comes within 30 seconds

asyncio.run(watch_on_a_loop())

# Long over, and still there: as one piece of text, and from any item on.
print("Cleo read", *tokens.view("merge"))
print("Dan goes on with", *(entry.item for entry in tokens.entries(after=2)))
