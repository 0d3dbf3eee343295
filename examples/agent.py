"""An agent: the model calls three tools, and its answer is printed as it arrives.

The demo server calls no functions: run this with a key.
"""

import asyncio
from collections.abc import AsyncIterator

from rxmistral import (
    AnswerEnded,
    Mistral,
    RoundEnded,
    TextDelta,
    ToolError,
    ToolFailed,
    ToolProgress,
    ToolReturned,
    UserMessage,
)


async def weather(city: str) -> dict[str, object]:
    """Returns the weather in a city, now."""
    await asyncio.sleep(0.01)  # a request to a service
    return {"city": city, "celsius": 21}


async def trains(start: str, to: str) -> AsyncIterator[str]:
    """Searches for trains; slow."""
    for operator in ("SNCF", "DB"):
        await asyncio.sleep(0.02)
        yield f"asked {operator}"
    yield f"{start} 8:15 - {to} 11:42"


def book(train: str, seats: int = 1) -> str:
    """Books seats in a train."""
    raise ToolError(f"no {seats} seats are free in the train {train}")


with Mistral() as client:
    run = client.chat.run(
        model="mistral-small-latest",
        messages=[UserMessage(content="Book a train to Paris, if it is sunny there.")],
        tools=[weather, trains, book],
    )
    for part in run:
        match part:
            case TextDelta(text):
                print(text, end="", flush=True)
            case ToolProgress(call, item):
                print(f"\n  {call.function.name}: {item}", end="")
            case ToolReturned(call, content):
                print(f"\n  {call.function.name} returned {content}", end="")
            case ToolFailed(call, message):
                print(f"\n  {call.function.name} failed: {message}", end="")
            case RoundEnded():
                print()
            case AnswerEnded(status):
                print(f"{status} after {len(run.messages)} messages")
