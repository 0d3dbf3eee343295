"""Stop an answer when the next prompt arrives: nothing more of the old answer is emitted.

A `for` loop over the answers may have up to 512 items of the old answer buffered when the prompt
arrives; `subscribe` buffers none. An answer that fails ends the stream of all answers: to prevent
this, catch the error in `ask`, with `.pipe(text(), ops.catch(reactivex.of("Sorry.")))`.
"""

from threading import Event

from reactivex import Subject

from rxmistral import Mistral, Stream, UserMessage, answer_each, text
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


with ScriptedServer(service) as server, Mistral(server_url=server.url) as client:

    def ask(prompt: str) -> Stream[str]:
        message = UserMessage(content=prompt)
        return client.chat.stream(model="mistral-small-latest", messages=[message]).pipe(text())

    # "queue" lets a prompt wait for the running answer to end; "ignore" drops it meanwhile.
    prompts: Subject[str] = Subject()
    prompts.pipe(answer_each(ask, "switch")).subscribe(show, on_completed=ended.set)

    prompts.on_next("Tell me about Rome.")
    begun.wait()
    print(" ... enough!")
    prompts.on_next("Tell me about Paris.")  # closes the connection of the answer about Rome
    prompts.on_completed()
    ended.wait()
print()
