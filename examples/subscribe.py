"""Subscribe to an answer: nothing blocks, and the script ends when the answer does."""

from reactivex import operators as ops

from rxmistral import Mistral, UserMessage, text

client = Mistral()
tokens = client.chat.stream(
    model="mistral-small-latest",
    messages=[UserMessage(content="Write a short poem about coding.")],
).pipe(text())


def longer(length: int, token: str) -> int:
    return length + len(token)


lengths = tokens.pipe(ops.scan(longer, 0))

lengths.subscribe(
    on_next=lambda length: print(f"{length} characters"),
    on_error=lambda error: print(f"failed: {error}"),
    on_completed=lambda: print("that was all"),
)
print("asked")
