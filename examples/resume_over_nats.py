"""Write an answer into NATS JetStream, where any process can read it and stop it.

Needs a key in MISTRAL_API_KEY, and `nats-server --jetstream` on this machine, or NATS_URL.
"""

import os
from threading import Event

from rxmistral import Mistral, StoppedError, UserMessage, from_log, to_log
from rxmistral.logs.jetstream import NatsLog

url = os.environ.get("NATS_URL", "nats://localhost:4222")
run_id = "count-" + os.urandom(4).hex()  # what a web application sends to its page
ended = Event()

with Mistral() as client, NatsLog(url) as log, NatsLog(url) as other_log:
    message = UserMessage(content="Count forever.")
    answer = client.chat.stream(model="mistral-small-latest", messages=[message])
    answer.text().pipe(to_log(log, run_id)).subscribe(
        on_error=lambda _: ended.set(), on_completed=ended.set
    )

    try:
        for number in from_log(other_log, run_id):
            print(number, end="", flush=True)
            if "three" in number:
                other_log.stop(run_id)
    except StoppedError as error:
        print("...", error)

    ended.wait()  # the request is cancelled
