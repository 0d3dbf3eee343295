"""Policies of a call: how long it waits, whether it asks again, and how many calls run at once.

Give a policy to `Mistral(...)`, or to `chat.stream(...)`, which takes precedence; None there
turns off the client's. Without any, a call is one request with the timeouts below.

Timeouts
    Four timeouts measure useful items (text, thinking, tool calls), not bytes: `connect` until
    there is a connection (10 s), `first` until the first item (60 s), `gap` between two items
    (60 s; `thinking_gap` while the model thinks), and `total` for everything (no limit).
    Comments, roles and empty deltas restart no timeout; your own code's time expires none.
    `timeout_ms`, the official SDK's argument, sets `first` and `gap`.
Retry
    Repeats a request while nothing useful was emitted, so text never appears twice: after
    connection failures, the timeouts `connect` and `first`, the statuses 429 and 5xx, and
    errors inside an answer that contained nothing yet. Waits grow from 0.5 s to 30 s, with
    jitter; `Retry-After` and `retry-after-ms` replace them, up to that maximum. Disposing ends
    a wait. Without a `Retry` no request is repeated, because a request that failed may have
    cost a generation. The official SDK's `RetryConfig` works, too.
Resume
    Continues an answer that broke after text, in the same stream: it sends the text so far as a
    message with `prefix: true`, and hides the echo of it. Not continued: an answer with only
    thinking, the beginning of a tool call or a finish_reason; JSON (unless `structured=True`);
    more than one answer (`n`).
Limit
    Delays streams beyond `concurrent` and requests beyond `per_minute`, in order of arrival, for
    all clients and calls that share it. After a `Retry-After` to one of them all of them wait.

`fallback` and `hedge` ask several models for one answer.

Endings
-------
A stream completes after a finish_reason or `[DONE]`: at the end of the body, or a quarter of a
second later if the service does not end it, or at once if the connection breaks then. Every
other ending is an error, which follows the items that arrived before it. `on_outcome(callback)`
delivers one `Outcome` for every ending, `dispose()` included; afterwards `.outcome` returns it,
on the answer and on each Stream piped from it. An answer that was read to its end leaves its
connection to the next call. So does one that was left after the finish_reason, once the rest of
its body has been read, for up to a quarter of a second.

    what happened                          error                     Outcome.status  ask again?
    complete, or cut at the length limit   none                      completed
    you left early                         none                      cancelled
    no answer arrived                      RequestError              failed          Retry, if not .is_permanent
      ... in time                          RequestTimeoutError       timed_out       Retry
    the service refused                    StatusError               refused         429, 5xx: Retry
      401 and 403; 429                     AuthenticationError; RateLimitError
    the connection broke                   DroppedStreamError        dropped         Resume
    no useful item arrived in time         StreamTimeoutError        timed_out       Resume
    no finish_reason and no [DONE]         IncompleteStreamError     truncated       Resume
    the service reported an error          ReportedError             reported        usually; Resume
    an event with broken JSON              ChunkError                failed          may happen again
    not an event stream, or a huge event   ProtocolError             failed          correct the URL
    complete, but no value for parsed()    InvalidAnswerError        completed       perhaps
    guarded(on_match="stop") matched       GuardError                cancelled       no
    all of fallback() or hedge() failed    AllFailedError           failed          see .errors
    stopped for everyone who reads it      StoppedError              cancelled       no
    too slow or too late for a shared run  LaggedError               failed          give more max_items
    the producer of a logged run died      LostProducerError         failed          yes
    the log itself failed                  LogError, its subclasses  failed          see its text
    your callback raised                   that exception            failed
    an operator such as map() raised       that exception            cancelled, as it has left

`Retry` and `Resume` in the last column ask again for you. A `StreamError` keeps what arrived as
`.partial`, a response in which an incomplete tool call is an `UnfinishedToolCall`. Timeouts are
builtin `TimeoutError`s, too. A subscription without `on_error` reports its error on stderr.
`rxmistral.errors` lists the attributes of each error.

>>> from rxmistral import Mistral, Resume, Retry, Timeouts, UserMessage, text
>>> policies = {"timeouts": Timeouts(first=20, gap=10), "retry": Retry(), "resume": Resume()}
>>> with Mistral.demo(**policies) as client:
...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Fail.")])
...     print("".join(answer.pipe(text())), answer.outcome.status, answer.outcome.requests)
One, two, three, four, five. completed 2
"""

from .limit import Limit
from .resume import Resume
from .retry import BackoffStrategy, Retry, RetryConfig
from .timeouts import Timeouts

__all__ = ["BackoffStrategy", "Limit", "Resume", "Retry", "RetryConfig", "Timeouts"]
