"""Chat in a Tk window that stays responsive while the answer arrives.

Enter sends, Escape stops. The callbacks of an answer run on the thread that reads it, and only
Tk's own thread may use Tk. So the callbacks put items into a queue, which the window polls thirty
times a second, showing everything in it at once. `on_outcome` puts the ending into the queue, too.

An `observe_on(TkinterScheduler(root))` per token costs five times the CPU, and lags at 1000 tokens
a second; if you use it, put `coalesced(0.03)` before it.
"""

import os
import tkinter as tk
from contextlib import ExitStack
from queue import SimpleQueue
from tkinter import ttk

from rxmistral import Message, Mistral, Outcome, UserMessage
from rxmistral.demo import demo_server

POLL_INTERVAL_MS = 33


class Chat:
    """A window, and the conversation in it."""

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
        self.show_idle("Ask something, and press Enter.")

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

    def show_idle(self, status: str) -> None:
        self.answering = False
        self.button.configure(text="Send", command=self.send)
        self.status.configure(text=status)

    def show(self, words: str, tag: str = "answer") -> None:
        at_the_end = self.area.yview()[1] == 1.0  # otherwise the user reads further up
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
        self.arrived = SimpleQueue()  # a stopped answer may still put items into the old queue
        put = self.arrived.put
        self.subscription = answer.on_outcome(put).text().subscribe(put, lambda _: None)
        self.answering = True
        self.button.configure(text="Stop", command=self.stop)
        self.status.configure(text="Answering. Escape stops it.")
        self.root.after(POLL_INTERVAL_MS, self.poll)

    def poll(self) -> None:
        """Shows at once everything that has arrived since the last poll."""
        words = ""
        while not self.arrived.empty():
            match self.arrived.get():
                case str(piece):
                    words += piece
                case outcome:  # always the last item, however the answer ended
                    self.show(words + "\n")
                    self.end(outcome)
                    return
        if words:
            self.show(words)
        self.root.after(POLL_INTERVAL_MS, self.poll)

    def end(self, outcome: Outcome) -> None:
        if outcome.message is not None:
            self.messages.append(outcome.message)
        self.show_idle(f"{outcome.status}: {outcome.error}" if outcome.error else outcome.status)

    def stop(self) -> None:
        """Closes the connection; the outcome arrives as for any other ending."""
        if self.answering:
            self.subscription.dispose()

    def close(self) -> None:
        self.stop()
        self.root.destroy()


if __name__ == "__main__":
    with ExitStack() as stack:
        url = None  # the default: Mistral
        if not os.environ.get("MISTRAL_API_KEY"):
            url = stack.enter_context(demo_server()).url
        Chat(stack.enter_context(Mistral(server_url=url))).root.mainloop()
