"""Compose the pipe of an answer by hand, from the request to the text.

`chat.stream(...)` composes the same stages up to the completions. Each stage is an Observable:
record its blocks, count its events, or put an operator of your own between two of them. Without
Rx, `rxmistral.wire.decode_events(blocks)` turns any iterable of bytes into events.
"""

import requests

from rxmistral import completions, deltas, text
from rxmistral.demo import demo_server
from rxmistral.wire import blocks, events, lines

with demo_server() as server:  # in place of https://api.mistral.ai
    request = requests.Request(
        "POST",
        f"{server.url}/v1/chat/completions",
        headers={
            "Authorization": "Bearer your-key",
            "Accept-Encoding": "identity",  # compression delays tokens
        },
        json={
            "model": "mistral-small-latest",
            "stream": True,
            "messages": [{"role": "user", "content": "Count to five."}],
        },
    )
    as_blocks = blocks(request)  # bytes as the socket returned them
    as_lines = as_blocks.pipe(lines())  # raw lines of the event stream, bytes
    as_events = as_lines.pipe(events())  # ServerSentEvent: event, data, id, retry
    as_completions = as_events.pipe(completions())  # CompletionEvent; [DONE] is not emitted
    as_deltas = as_completions.pipe(deltas())  # DeltaMessage: role, content, tool_calls
    as_text = as_completions.pipe(text())  # str, never empty

    print(next(iter(as_events)).data[:20], "...")  # each reader sends a request of its own
    print([delta.content for delta in as_deltas])
    print("".join(as_text))
