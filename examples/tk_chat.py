"""Chat in a window of Tk, which stays responsive while the answer comes.

Enter sends, Escape stops. The callbacks of an answer run on the thread that reads it, and
Tk may be touched by its own thread only: so they put what comes into a queue, and the window
looks into it thirty times a second.
"""

import os
import tkinter as tk
from contextlib import ExitStack
from queue import SimpleQueue
from tkinter import ttk

from rxmistral import Message, Mistral, Outcome, UserMessage, on_outcome, text
from rxmistral.demo import demo_server

LOOK_EVERY = 33  # milliseconds


class Chat:
    """The window, and the conversation in it."""

    def __init__(self, client: Mistral) -> None:
        self.client = client
        self.messages: list[Message] = []
        self.arrived: SimpleQueue[str | Outcome] = SimpleQueue()
        self.answering = False
        self.root = tk.Tk()
        self.root.title("Chat")
        self.root.bind("<Return>", lambda _: self.send())
        self.root.bind("<Escape>", lambda _: self.stop())
        self.root.protocol("WM_DELETE_WINDOW", self.close)
        self.arrange()
        self.rest("Ask something, and press Enter.")

    def arrange(self) -> None:
        frame = ttk.Frame(self.root, padding=12)
        frame.pack(fill="both", expand=True)
        frame.columnconfigure(0, weight=1)
        frame.rowconfigure(0, weight=1)
        self.area = tk.Text(frame, width=72, height=20, wrap="word", state="disabled")
        self.area.configure(font="TkTextFont", relief="flat", padx=12, pady=12, spacing2=3)
        self.area.tag_configure("prompt", font="TkHeadingFont", spacing1=12, spacing3=6)
        self.entry = ttk.Entry(frame)
        self.button = ttk.Button(frame)
        self.status = ttk.Label(frame)
        self.area.grid(row=0, columnspan=2, sticky="nsew")
        self.entry.grid(row=1, column=0, sticky="ew", pady=8, ipady=3)
        self.button.grid(row=1, column=1, padx=(8, 0))
        self.status.grid(row=2, columnspan=2, sticky="w")
        self.entry.focus()

    def rest(self, status: str) -> None:
        self.answering = False
        self.button.configure(text="Send", command=self.send)
        self.status.configure(text=status)

    def show(self, words: str, tag: str = "answer") -> None:
        at_the_end = self.area.yview()[1] == 1.0  # else somebody reads further up
        self.area.configure(state="normal")
        self.area.insert("end", words, tag)
        self.area.configure(state="disabled")
        if at_the_end:
            self.area.see("end")

    def send(self) -> None:
        prompt = self.entry.get().strip()
        if prompt and not self.answering:
            self.entry.delete(0, "end")
            self.show(prompt + "\n", "prompt")
            self.ask(prompt)

    def ask(self, prompt: str) -> None:
        self.messages.append(UserMessage(content=prompt))
        answer = self.client.chat.stream(model="mistral-small-latest", messages=self.messages)
        self.arrived = SimpleQueue()  # what a stopped one may still bring is not for this one
        put = self.arrived.put
        self.subscription = answer.pipe(on_outcome(put), text()).subscribe(put, lambda _: None)
        self.answering = True
        self.button.configure(text="Stop", command=self.stop)
        self.status.configure(text="Answering. Escape stops it.")
        self.root.after(LOOK_EVERY, self.look)

    def look(self) -> None:
        """Show in one go what has come since it last looked."""
        words = ""
        while not self.arrived.empty():
            match self.arrived.get():
                case str(piece):
                    words += piece
                case outcome:  # the last thing that comes, however it ended
                    self.show(words + "\n")
                    self.end(outcome)
                    return
        if words:
            self.show(words)
        self.root.after(LOOK_EVERY, self.look)

    def end(self, outcome: Outcome) -> None:
        said = (choice.message for choice in outcome.response.choices)
        self.messages += [message for message in said if message and message.content]
        self.rest(f"{outcome.status}: {outcome.error}" if outcome.error else outcome.status)

    def stop(self) -> None:
        """Close the connection; the outcome comes as that of any other ending."""
        if self.answering:
            self.subscription.dispose()

    def close(self) -> None:
        self.stop()
        self.root.destroy()


if __name__ == "__main__":
    with ExitStack() as stack:
        url = None  # Mistral's own
        if not os.environ.get("MISTRAL_API_KEY"):
            url = stack.enter_context(demo_server()).url
        Chat(stack.enter_context(Mistral(server_url=url))).root.mainloop()
