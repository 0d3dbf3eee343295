"""Stop an answer when the next prompt arrives: nothing more of the old answer is emitted.

A loop over the answers drops what it has buffered of the old one, too.
"""

from threading import Event

from reactivex import Subject

from rxmistral import Mistral, Stream, UserMessage, answer_each
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps


def service(request: ReceivedRequest) -> Script:
    """Returns an answer in place of Mistral; the one about Rome never ends."""
    if "Rome" in request.json["messages"][-1]["content"]:
        return [steps.role(), "Rome was", " not built", steps.hang()]
    return [steps.role(), "Paris is", " well worth", " a mass.", steps.finish(), steps.done()]


begun, ended = Event(), Event()


def show(token: str) -> None:
    print(token, end="", flush=True)
    if token == " not built":
        begun.set()


def report(prompt: str, error: Exception) -> None:
    """Called when an answer fails; the next prompt is asked nevertheless."""
    print(f"[no answer to {prompt!r}: {error}]")


with ScriptedServer(service) as server, Mistral(server_url=server.url) as client:

    def ask(prompt: str) -> Stream[str]:
        message = UserMessage(content=prompt)
        return client.chat.stream(model="mistral-small-latest", messages=[message]).text()

    # With when_busy="queue" a prompt waits for the running answer to end; "ignore" drops it.
    prompts: Subject[str] = Subject()
    prompts.pipe(answer_each(ask, on_error=report)).subscribe(show, on_completed=ended.set)

    prompts.on_next("Tell me about Rome.")
    begun.wait()
    print(" ... enough!")
    prompts.on_next("Tell me about Paris.")  # closes the connection of the answer about Rome
    prompts.on_completed()
    ended.wait()
print()
