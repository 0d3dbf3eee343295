"""An answer in NATS JetStream that anybody may watch, and anybody may stop.

Needs a key in MISTRAL_API_KEY, and `nats-server --jetstream` on this machine, or NATS_URL.
"""

import os
from threading import Event

from rxmistral import Mistral, StoppedError, UserMessage, from_log, text, to_log
from rxmistral.logs.jetstream import NatsLog

url = os.environ.get("NATS_URL", "nats://localhost:4222")
run_id = "count-" + os.urandom(4).hex()  # what a web app gives its page
ended = Event()

with Mistral() as client, NatsLog(url) as log, NatsLog(url) as elsewhere:
    message = UserMessage(content="Count for ever.")
    answer = client.chat.stream(model="mistral-small-latest", messages=[message])
    answer.pipe(text(), to_log(log, run_id)).subscribe(
        on_error=lambda _: ended.set(), on_completed=ended.set
    )

    try:
        for number in from_log(elsewhere, run_id):
            print(number, end="", flush=True)
            if "three" in number:
                elsewhere.stop(run_id)
    except StoppedError as error:
        print("...", error)

    ended.wait()  # the request has been cancelled, and the connection is free
