"""Print an answer sentence by sentence, each as soon as it has ended.

Needs rxmistral[sentences], whose engine has no wheels for musl or for Windows on arm64.
"""

from rxmistral import Mistral, UserMessage

with Mistral() as client:
    answer = client.chat.stream(
        model="mistral-small-latest",
        messages=[UserMessage(content="Why is the sky blue?")],
    )
    for sentence in answer.text().sentences():
        print(sentence.strip())
