"""Ask another service where the first one fails before it has said anything."""

from rxmistral import Mistral, UserMessage, fallback, text
from rxmistral.testing import Script, ScriptedServer, steps

# One service gives up after its first event, which says nothing yet; the other is well.
GIVES_UP: Script = [steps.role(), steps.error("overloaded")]
WELL: Script = [steps.role(), "The second", " one says", " this.", steps.finish(), steps.done()]

messages = [UserMessage(content="Who is there?")]

with (
    ScriptedServer(GIVES_UP) as one,
    ScriptedServer(WELL) as other,
    Mistral(server_url=one.url) as first,
    Mistral(server_url=other.url) as second,
):
    preferred = first.chat.stream(model="mistral-large-latest", messages=messages)
    otherwise = second.chat.stream(model="mistral-small-latest", messages=messages)

    # Nothing is sent to the second service as long as the first one may answer.
    for token in fallback(preferred, otherwise).pipe(text()):
        print(token, end="", flush=True)
    print()

    if preferred.outcome is not None:
        print("because of the first:", preferred.outcome.error)
