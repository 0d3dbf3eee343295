"""Talk with a voice that can be interrupted: the history contains what it has really spoken.

The next prompt stops the answer that is being spoken. Text that was received, but not spoken,
does not enter the history, so the model knows what the user has heard.

Needs rxmistral[sentences].
"""

from threading import Event, Thread

from rxmistral import Answer, Conversation, Mistral, StoppedError
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps


def service(request: ReceivedRequest) -> Script:
    """Returns an answer in place of Mistral; the one about Rome never ends."""
    if len(request.json["messages"]) == 1:
        return [steps.role(), "Rome was not built ", "in a day. It took", " a while.", steps.hang()]
    return [steps.role(), "Paris is well ", "worth a mass.", steps.finish(), steps.done()]


heard, silenced = Event(), Event()


def speak(sentence: str, answer: Answer, spoken: list[str]) -> None:
    """Stands in for a text-to-speech engine that reports each word, and for a microphone."""
    for word in sentence.split():
        print(word, end=" ", flush=True)
        spoken.append(word)
        answer.delivered(text=" ".join(spoken))
        if word == "built":
            heard.set()  # the user interrupts
            silenced.wait()
            return


def reply(prompt: str) -> None:
    answer, spoken = chat.ask(prompt), list[str]()
    try:
        for sentence in answer.text().sentences():
            speak(sentence, answer, spoken)
    except StoppedError:  # another prompt has begun
        pass


with ScriptedServer(service) as server, Mistral(server_url=server.url) as client:
    chat = Conversation(client, model="mistral-small-latest", interrupted_note="(interrupting)")
    speaking = Thread(target=reply, args=["Tell me about Rome."])
    speaking.start()
    heard.wait()
    print("... enough!")
    silenced.set()
    reply("Tell me about Paris.")  # stops the former answer
    speaking.join()
    print()
    for message in chat.messages:
        print(f"{message.role}: {message.content!r}")
