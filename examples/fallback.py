"""Ask a second service if the first one fails before it emits anything useful."""

from rxmistral import Mistral, UserMessage, fallback
from rxmistral.testing import Script, ScriptedServer, steps

# One service reports an error after its first event, which is only a role; the other works.
FAILING: Script = [steps.role(), steps.error("overloaded")]
WORKING: Script = [steps.role(), "The second", " one says", " this.", steps.finish(), steps.done()]

messages = [UserMessage(content="Who is there?")]

with (
    ScriptedServer(FAILING) as one,
    ScriptedServer(WORKING) as other,
    Mistral(server_url=one.url) as first,
    Mistral(server_url=other.url) as second,
):
    preferred = first.chat.stream(model="mistral-large-latest", messages=messages)
    otherwise = second.chat.stream(model="mistral-small-latest", messages=messages)

    # No request is sent to the second service as long as the first one may answer. With
    # `resume=True` it also continues an answer that breaks after text.
    for token in fallback(preferred, otherwise).text():
        print(token, end="", flush=True)
    print()

    if preferred.outcome is not None:
        print("because of the first:", preferred.outcome.error)
