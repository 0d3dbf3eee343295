"""Print an answer as it arrives."""

from rxmistral import Mistral, UserMessage

with Mistral() as client:
    answer = client.chat.stream(
        model="mistral-small-latest",
        messages=[UserMessage(content="Write a short poem about coding.")],
    )
    for token in answer.text():
        print(token, end="", flush=True)
print()
