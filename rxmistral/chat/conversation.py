"""Conversation: a chat with a history.

    ask(prompt) ──▶ Answer ──▶ a reader ──▶ the turn begins ──▶ client.chat.run(history + prompt)
                                   └──▶ the items it has received ──▶ history

The lock of the delivery guards the history and the turns, since garbage collection may end a
reader, and with it a turn, while any lock is held. No callback of the program runs under it.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable
from copy import copy
from functools import partial
from typing import Any, Self, Unpack

import msgspec
from msgspec import structs

from ..checks import check_callback
from ..completions.parts import Part
from ..errors import BusyError
from ..models import Message, SystemMessage, ToolMessage, UserMessage
from ..rx.current_iteration import current_iteration, current_reader
from ..rx.delivery import lock
from ..rx.stream import Stream
from ..rx.threads import register_for_fork
from .answer import Answer
from .client import Mistral
from .conversation_settings import (
    ConversationOptions,
    Rules,
    RunDefaults,
    Saved,
    WhenBusy,
    check_texts,
)
from .history import History, TurnPrompt, as_message
from .request import AnyMessage
from .run import RunStream
from .speculation import Speculation
from .tool_runner import Approve
from .trimming import Trim, trimmed, turns_within
from .turn import OpenRun, Prompt, Turn, turn_prompt

__all__ = ["Conversation"]


class Conversation:
    """A chat with a model: its history, and at most one answer at a time.

    ```python
    chat = Conversation(client, model="mistral-small-latest", system="Be brief.")
    for text in chat.ask("What is a monad?").text():
        print(text, end="", flush=True)
    ```

    The history contains the part of an answer that has reached its reader: the items that a loop
    over the answer or its text has taken, or that any other reader has received, or as much as
    `Answer.delivered` reports. It can be sent at any moment. A Conversation may be used by any
    thread and event loop.

    Args:
        client: Sends the requests.
        model: The name of the model.
        system: The text of the system message; None: there is none.
        messages: The conversation so far.
        when_busy: What a prompt does during an answer. "switch": it cancels the answer, whose
            readers get `StoppedError`. "queue": it waits. "refuse": its reader gets `BusyError`.
        max_rounds: The largest number of requests of one answer.
        max_messages: The number of messages to keep, without the system message: of the
            latest whole turns, and at least one turn. None: all.
        trim: Called with the history before a request, and when `messages` is read; returns
            the messages to keep. Turns stay whole. None: all, or as `max_messages` specifies.
        interrupted: The text of the assistant message after a run that ended with the result of
            a tool, since models refuse a user message there.
        interrupted_note: A text that is added to the user turn after an answer that was cut.
            None: nothing is added.
        id: The id of the conversation; None: a new one.
        **defaults: Any other argument of `chat.run`, such as `tools`, for each answer. If no
            `prompt_cache_key` is given, it is the id of the conversation.

    Attributes:
        id: The id of the conversation.
        model: The name of the model.

    Raises:
        TypeError, ValueError: An argument cannot be used.

    >>> from rxmistral import Mistral
    >>> with Mistral.demo() as client:
    ...     chat = Conversation(client, model="any")
    ...     "".join(chat.ask("Say hello.").text())
    ...     [message.content for message in chat.messages]
    'Hello'
    ['Say hello.', 'Hello']
    """

    def __init__(
        self,
        client: Mistral,
        *,
        model: str,
        system: str | None = None,
        messages: Iterable[AnyMessage] = (),
        when_busy: WhenBusy = "switch",
        max_rounds: int = 10,
        max_messages: int | None = None,
        trim: Trim | None = None,
        interrupted: str = "[interrupted]",
        interrupted_note: str | None = None,
        id: str | None = None,
        **defaults: Unpack[RunDefaults],
    ) -> None:
        if not isinstance(client, Mistral):
            raise TypeError(f"client must be a Mistral, got {type(client).__name__}")
        self._rules = Rules(when_busy, max_rounds, max_messages, interrupted, interrupted_note)
        self._rules.check()
        check_texts(system=system, id=id)
        if trim is not None:
            check_callback("trim", trim)
        if trim is not None and max_messages is not None:
            raise ValueError("give max_messages or trim, not both")
        given = [as_message(each, f"messages[{n}]") for n, each in enumerate(messages)]
        if system is not None:
            given.insert(0, SystemMessage(content=system))
        self.id = uuid.uuid4().hex if id is None else id
        self.model = model
        self._client = client
        self._trim = trim if max_messages is None else turns_within(max_messages)
        self._history = History(given, interrupted, interrupted_note)
        self._defaults: RunDefaults = {"prompt_cache_key": self.id, **defaults}
        tools = self._defaults.pop("tools", None)
        if tools:  # as a list, since it is read for each answer
            self._defaults["tools"] = [*tools]
        self._current: Turn | None = None
        self._waiting: deque[Turn] = deque()
        register_for_fork(self)
        self._run([UserMessage(content="")])  # checks the arguments, and sends nothing

    def forked(self) -> None:
        """Drops the turns that wait: their readers are in the parent process."""
        self._waiting.clear()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}: {len(self.messages)} messages>"

    # --- the history ---

    @property
    def messages(self) -> list[Message]:
        """The history now, in a form that can be sent.

        It is valid once a user message follows, or as it is if it ends with a user message or the
        result of a tool.

        Calls of tools without a function are answered "cancelled" until `ask` receives the results.
        """
        return self._trimmed(self._settled_history().messages())

    def to_json(self) -> bytes:
        """Returns the history, the id and the plain settings as JSON, for a file or a database."""
        messages, is_cut = self._messages_to_copy()
        return msgspec.json.encode(Saved(self.id, messages, is_cut, self._rules))

    @classmethod
    def from_json(
        cls,
        data: bytes | str,
        client: Mistral,
        *,
        model: str,
        **defaults: Unpack[ConversationOptions],
    ) -> Self:
        """Returns the conversation that `to_json` has saved.

        Args:
            data: The JSON.
            client: Sends the requests.
            model: The name of the model.
            **defaults: Any other argument of `Conversation`, such as `tools`; those that are not
                given are as they were saved. A `system` replaces the saved one. A `trim` and the
                arguments of the requests are not saved.

        Raises:
            ValueError: The data was not made by `to_json`.
        """
        try:
            saved = msgspec.json.decode(data, type=Saved[dict[str, Any]])
        except msgspec.MsgspecError as error:
            raise ValueError(
                f"data is not a conversation that to_json has saved: {error}"
            ) from None
        messages: list[Any] = saved.messages
        if defaults.get("system") is not None:
            messages = [each for each in messages if each.get("role") != "system"]
        settings: dict[str, Any] = {"id": saved.id, **structs.asdict(saved.rules), **defaults}
        if defaults.get("trim") is not None:
            settings["max_messages"] = defaults.get("max_messages")
        chat = cls(client, model=model, messages=messages, **settings)
        chat._history.is_cut = saved.is_cut
        return chat

    def fork(self) -> Self:
        """Returns a copy that is independent from now on, with an id of its own.

        It has the history as it is now, all settings and the `prompt_cache_key`.
        """
        messages, is_cut = self._messages_to_copy()
        settings: dict[str, Any] = structs.asdict(self._rules)
        if self._trim is not None and self._rules.max_messages is None:
            settings["trim"] = self._trim
        fork = type(self)(
            self._client,
            model=self.model,
            messages=messages,
            **settings,
            **self._defaults,
        )
        fork._history.is_cut = is_cut
        return fork

    def _settled_history(self) -> History:
        """Returns a copy of the history, with the running answer as far as it was delivered."""
        with lock:
            if self._current is not None:
                self._current.settle(self._history)
            return copy(self._history)

    def _messages_to_copy(self) -> tuple[list[Message], bool]:
        """Returns the messages without an answer to open calls, and whether the last turn was cut."""
        history = self._settled_history()
        ids = {call.id for call in history.open_calls()}
        messages = [
            each
            for each in self._trimmed(history.messages())
            if not (isinstance(each, ToolMessage) and each.tool_call_id in ids)
        ]
        return messages, history.is_cut

    def _trimmed(self, messages: list[Message]) -> list[Message]:
        return trimmed(messages, self._trim, self._history.interrupted)

    # --- turns ---

    def ask(self, prompt: Prompt) -> Answer:
        """Returns the answer to a prompt: a cold Stream of its parts (see `Answer`).

        The turn begins when the answer is read. Calls of tools without a function end it, and are
        in `answer.outcome.tool_calls`; the next prompt may be their results:

            results = [ToolMessage(content=..., tool_call_id=call.id) for call in ...]
            chat.ask(results)

        Args:
            prompt: A text, content chunks, or a `UserMessage`; or a `ToolMessage` or several of
                them, which answer open tool calls. Calls that the prompt does not answer are
                answered "cancelled".

        Errors: `ValueError` if the prompt answers a tool call that is not open when the turn
            begins.

        Raises:
            TypeError: The prompt has another type.
        """
        return self._answer(prompt, self._open_run)

    def speculate(self, prompt: Prompt) -> Speculation:
        """Sends a prompt that may not be final, and holds the answer back (see `Speculation`).

        A running answer goes on, and tools do not run, until the committed answer is read.

        Args:
            prompt: A text, content chunks, or a `UserMessage`; or a `ToolMessage` or several of
                them, which answer open tool calls.

        Raises:
            TypeError: The prompt has another type.
            ValueError: The prompt answers a tool call that is not open.
        """
        messages = self._messages_with(turn_prompt(prompt))
        approve = self._defaults.get("approve")
        return Speculation(prompt, messages, approve, self._run, self._answer)

    def _answer(self, prompt: Prompt, open_run: OpenRun) -> Answer:
        turn = Turn(turn_prompt(prompt), partial(self._open, open_run), self._start_next)
        return Answer(turn, self._enter)

    def _run(self, messages: list[Message], approve: Approve | None = None) -> RunStream:
        """Returns a run that answers these messages, apart from the history."""
        options = self._defaults.copy()
        if approve is not None:
            options["approve"] = approve
        run = self._client.chat.run(
            model=self.model, messages=messages, max_rounds=self._rules.max_rounds, **options
        )
        return run.of_conversation(self.id)

    def _open_run(self, messages: list[Message]) -> tuple[RunStream, Stream[Part]]:
        stream = self._run(messages)
        return stream, stream

    def _open(self, open_run: OpenRun, turn: Turn) -> tuple[RunStream, Stream[Part]]:
        """Trims the messages of a turn that has begun, and opens the run that answers them."""
        messages = self._to_send(turn.sent)
        with lock:
            turn.sent = messages
            if turn is self._current:
                self._history.begin(messages)
        return open_run(messages)

    def _messages_with(self, prompt: TurnPrompt) -> list[Message]:
        """Returns the messages to send if a turn with this prompt began now."""
        return self._to_send(self._settled_history().with_turn(prompt))

    def _to_send(self, messages: list[Message]) -> list[Message]:
        kept = self._trimmed(messages)
        if kept[-1:] != messages[-1:] and isinstance(messages[-1], ToolMessage):
            raise ValueError("trim must keep the last tool messages, which the model is to answer")
        return kept

    def _enter(self, turn: Turn) -> None:
        """Begins a turn that a reader is about to read, or has it wait.

        Raises:
            BusyError: Another turn is running.
            RuntimeError: The prompt would wait for a loop that waits for the prompt.
            ValueError: The prompt answers a tool call that is not open.
        """
        with lock:
            if turn.has_entered or turn.run.history.ended:  # it may be closed before it began
                return
            current = self._current
            is_busy = current is not None and (not current.run.is_over or bool(self._waiting))
            if is_busy and self._rules.when_busy == "refuse":
                raise BusyError
            if is_busy and self._rules.when_busy == "queue":
                is_loop = current_iteration.get() is not None
                if is_loop and current is not None and current.run.is_taken_by(current_reader()):
                    raise RuntimeError(
                        "this prompt would wait for the answer of the loop in which it is read, "
                        "which waits for it: leave the loop first, or read it in another task"
                    )
                turn.has_entered = True
                self._waiting.append(turn)
                return
            self._begin(turn)
        if current is not None and is_busy:
            current.run.stop()  # emits errors to its readers: without the lock

    def _begin(self, turn: Turn) -> None:
        # Requires the lock.
        previous = self._current
        if previous is not None:
            previous.settle(self._history)
            self._history.with_turn(turn.prompt)  # if it raises, the previous answer goes on
            if self._rules.when_busy == "switch":  # a loop may have unread items of it
                previous.run.halt()
                previous.settle(self._history)
            previous.is_closed = True
        turn.sent = self._history.with_turn(turn.prompt)
        self._history.begin(turn.sent)
        turn.has_entered = turn.has_begun = True
        self._current = turn

    def _start_next(self) -> None:
        """Begins the next turn that waits, when the current one is over."""
        if not self._waiting:
            return
        with lock:
            if self._current is not None and not self._current.run.is_over:
                return
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.run.history.ended:  # its reader has not left
                    break
            else:
                return
            try:
                self._begin(turn)
            except ValueError as error:
                turn.fail(error)
        turn.start()
