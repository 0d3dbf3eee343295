"""The reactive core: Streams, their subscriptions and their sharing. Knows no HTTP, no Mistral.

    source ──▶ operators ──▶ subscriber ──▶ callbacks                 one subscription
                                  └──▶ iteration ──▶ `for`, `async for`, `await`
    source ──▶ run ──▶ history ──▶ delivery ──▶ many subscribers      shared, or within `with`

stream            Stream, and the ways to read it
pipe, reactivex_methods   the bases of Stream: its pipes, and the methods of reactivex
fluent            operators as methods of the Streams whose items they accept
answer_stream     a Stream that is an answer: its outcome and `close()`
iteration         `for` and `async for`, which take their items from a queue:
hand_off_queue    the bounded queue between a source and a loop
current_iteration   the loop for which a source is subscribed to
live_subscriptions   what `close()` and the end of a `with` block dispose
operator_subscriber   an operator that reads an answer gets an error when it is closed
stoppable_emission   stopping a reader while another thread emits to it
leaving           a reader that leaves by itself, and is not stopped
run               one subscription to a source, and its items, for several readers
shared_stream     SharedStream, `shared`
sharing           the runs of `shared()`: viewers come and go, and `stop()` ends it for all
opened_run        the run of a `with` block: its first reader costs as much as a reader alone
opened_loops      the loops over the Stream of such a block, which go on where they were left
stoppable_run     a run that can be stopped, and that counts what its readers have received
blocked_loops     event loops that are blocked by a wait for an answer that they read
history           the items of a run, and policies for viewers that lag
delivery          delivers the items of runs to their readers
worker            threads that run many tasks in steps, and their watchdog
reused_threads    threads that serve one subscription after another
switching         `answer_each`: a stream of prompts into the items of their answers
async_source      `from_async_iterable`, and the event loop of a subscription
map_async         `map_async`: an async call for each item
state_machine     operators made of state machines; the items that they accept
timer             a timer that is serialized with the source, for operators with time
scheduled_waits   waits as timers on a scheduler, without a thread
subscriber        the observer of each stage of a pipe: exactly one terminal
backpressure      pausing a source whose thread must not wait
cancellation, threads   stopping a thread; Ctrl-C in subscribe(); fork
request_counter, clock   requests per run; real time
"""
