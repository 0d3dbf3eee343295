"""Send more than text: images, a prefix that the answer continues, and fields of tomorrow.

Messages are structs of `rxmistral.models`, spelled as in the official SDK, or dicts.
`help(rxmistral.ChatArguments)` describes every other argument of `chat.stream`. An argument that
this version does not know is passed in `extra_body`.
"""

from rxmistral import ImageURLChunk, Mistral, SystemMessage, TextChunk, UserMessage

with Mistral(timeout_ms=20_000) as client:
    answer = client.chat.stream(
        model="mistral-medium-latest",
        messages=[
            SystemMessage(content="Answer in one sentence."),
            UserMessage(
                content=[
                    TextChunk(text="What is this?"),
                    ImageURLChunk(image_url="https://example.org/cat.png"),
                ]
            ),
            {"role": "assistant", "content": "It is a", "prefix": True},
        ],
        temperature=0.2,
        max_tokens=100,
        extra_body={"brand_new_field": True},
    )
    for token in answer.text():
        print(token, end="", flush=True)
print()
