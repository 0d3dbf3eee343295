"""Write an answer into Redis in one process; continue to read it in another.

Needs a key in MISTRAL_API_KEY, and `redis-server` on this machine, or REDIS_URL.
"""

import os

from rxmistral import Mistral, UserMessage, from_log, to_log
from rxmistral.logs.redis_streams import RedisLog

url = os.environ.get("REDIS_URL", "redis://localhost:6379")
run_id = "haiku-" + os.urandom(4).hex()  # what a web application sends to its page

# The process that asks the model.
with Mistral() as client, RedisLog(url) as log:
    message = UserMessage(content="Write a haiku about threads.")
    answer = client.chat.stream(model="mistral-small-latest", messages=[message])
    answer.text().pipe(to_log(log, run_id)).run()

# The process that serves a viewer that reconnects after the first two items.
with RedisLog(url) as log:
    for entry in from_log(log, run_id).entries(after=2):
        print(f"{entry.id}:{entry.item}", end="|")
print()
