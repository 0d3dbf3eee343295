"""Let the model call a function, and print the answer that uses its result.

The demo server calls no functions: run this with a key, or see "Agents" in the README.
"""

import json

import msgspec

from rxmistral import (
    AssistantMessage,
    Function,
    Mistral,
    Tool,
    ToolMessage,
    UserMessage,
    text,
    tool_calls,
)


class City(msgspec.Struct):
    city: str


def weather(city: str) -> dict[str, object]:
    return {"city": city, "celsius": 21}


tool = Tool(
    function=Function(
        name="weather",
        description="The weather in a city, now.",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    )
)
conversation: list[UserMessage | AssistantMessage | ToolMessage] = [
    UserMessage(content="What is the weather in Paris?")
]

with Mistral() as client:
    asked = client.chat.stream(
        model="mistral-small-latest", messages=conversation, tools=[tool], tool_choice="any"
    )
    calls = list(asked.pipe(tool_calls()))
    conversation.append(AssistantMessage(tool_calls=calls))

    for call in calls:
        found = weather(call.function.arguments_as(City).city)
        print(f"{call.function.name}: {found}")
        conversation.append(
            ToolMessage(content=json.dumps(found), tool_call_id=call.id, name=call.function.name)
        )

    answer = client.chat.stream(model="mistral-small-latest", messages=conversation, tools=[tool])
    for token in answer.pipe(text()):
        print(token, end="", flush=True)
print()
