"""Print an answer as it comes, without a word that must not be read."""

from rxmistral import Mistral, UserMessage, guarded, text

with Mistral() as client:
    answer = client.chat.stream(
        model="mistral-small-latest", messages=[UserMessage(content="Count to five.")]
    )
    # Only what may become the word waits: " two," is out at once, "th" is not.
    clean = answer.pipe(text(), guarded(r"\bthree\b", max_length=5, replacement="[...]"))
    for token in clean:
        print(token, end="", flush=True)
print()
