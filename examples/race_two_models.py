"""Ask a second model if the first one is slow; show the one that emits something useful first."""

from rxmistral import Mistral, UserMessage, hedge
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps


def service(request: ReceivedRequest) -> Script:
    """Returns an answer in place of Mistral; the large model stays silent."""
    if request.json["model"] == "mistral-large-latest":
        return [steps.role(), steps.hang()]
    return [steps.role(), "I am", " small", " and quick.", steps.finish(), steps.done()]


with ScriptedServer(service) as server, Mistral(server_url=server.url) as client:
    large, small = (
        client.chat.stream(model=model, messages=[UserMessage(content="Who are you?")])
        for model in ("mistral-large-latest", "mistral-small-latest")
    )
    # The large model has 0.2 seconds. Neither a role nor an error wins the race.
    for token in hedge(large, small, delay=0.2).text():
        print(token, end="", flush=True)
    print()

    if large.outcome is not None:  # its connection was closed when it lost
        print("the large one was", large.outcome.status)
