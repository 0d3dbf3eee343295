"""Let the model call a function until it can answer.

The demo server calls no functions: run this with a key, or see "Tools" in the README.
"""

from rxmistral import Message, Mistral, ToolMessage, UserMessage, tool


@tool
def weather(city: str) -> str:
    """The weather in a city, now."""
    print(f"weather({city!r})")
    return f"21 degrees in {city}"


messages: list[Message] = [UserMessage(content="What is the weather in Paris?")]

with Mistral() as client:
    while messages[-1].role != "assistant":
        answer = client.chat.stream(
            model="mistral-small-latest", messages=messages, tools=[weather]
        )
        for token in answer.text():
            print(token, end="", flush=True)

        outcome = answer.outcome
        assert outcome is not None
        assert outcome.message is not None  # the calls, or the answer
        messages.append(outcome.message)
        for call in outcome.tool_calls:
            result = weather.call_with(call.function.arguments)
            messages.append(ToolMessage(content=result, tool_call_id=call.id, name="weather"))
print()
