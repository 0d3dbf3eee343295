"""Subscribe to an answer: nothing blocks, and the script ends when the answer does."""

from rxmistral import Mistral, UserMessage

client = Mistral()
tokens = client.chat.stream(
    model="mistral-small-latest",
    messages=[UserMessage(content="Write a short poem about coding.")],
).text()

lengths = tokens.scan(lambda length, token: length + len(token), 0)

lengths.subscribe(
    on_next=lambda length: print(f"{length} characters"),
    on_error=lambda error: print(f"failed: {error}"),
    on_completed=lambda: print("that was all"),
)
print("asked")
