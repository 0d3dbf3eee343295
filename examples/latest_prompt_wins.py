"""Stop an answer when the next prompt comes: the old one is not heard of any more."""

from threading import Event

from reactivex import Subject

from rxmistral import Mistral, Stream, UserMessage, answer_each, text
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps


def service(request: ReceivedRequest) -> Script:
    """In place of Mistral: about Rome it can talk for ever."""
    if "Rome" in request.json["messages"][-1]["content"]:
        return [steps.role(), "Rome was", " not built", steps.hang()]
    return [steps.role(), "Paris is", " well worth", " a mass.", steps.finish(), steps.done()]


begun, ended = Event(), Event()


def show(token: str) -> None:
    print(token, end="", flush=True)
    if token == " not built":
        begun.set()


with ScriptedServer(service) as server, Mistral(server_url=server.url) as client:

    def ask(prompt: str) -> Stream[str]:
        message = UserMessage(content=prompt)
        return client.chat.stream(model="mistral-small-latest", messages=[message]).pipe(text())

    # "queue" lets a prompt wait for its turn, "ignore" drops it while an answer is running.
    prompts: Subject[str] = Subject()
    prompts.pipe(answer_each(ask, "switch")).subscribe(show, on_completed=ended.set)

    prompts.on_next("Tell me about Rome.")
    begun.wait()
    print(" ... enough!")
    prompts.on_next("Tell me about Paris.")  # closes the connection that Rome came from
    prompts.on_completed()
    ended.wait()
print()
