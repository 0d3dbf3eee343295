"""Print an answer as it arrives, without a word that must not be shown."""

from rxmistral import Mistral, UserMessage

with Mistral() as client:
    answer = client.chat.stream(
        model="mistral-small-latest", messages=[UserMessage(content="Count to five.")]
    )
    # Only text that may become the word is buffered: " two," is emitted at once, "th" is not.
    clean = answer.text().guarded(r"\bthree\b", max_length=5, replacement="[...]")
    for token in clean:
        print(token, end="", flush=True)
print()
