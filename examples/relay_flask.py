"""Serve an answer as Server-Sent Events, with Flask.

    python examples/relay_flask.py
    curl --no-buffer 'http://127.0.0.1:8000/answer?prompt=Why+is+the+sky+blue%3F'

Interrupt curl, and the generation stops. Needs flask.
"""

import os

from flask import Flask, Response, request

from rxmistral import Mistral, UserMessage
from rxmistral.demo import demo_server
from rxmistral.relay import SSE_HEADERS, server_sent_events

app = Flask(__name__)

with demo_server() as service, Mistral(server_url=service.url) as client:  # in place of a model

    @app.get("/answer")
    def answer() -> Response:
        tokens = client.chat.stream(
            model="mistral-small-latest", messages=[UserMessage(content=request.args["prompt"])]
        ).text()
        # Flask detects that a client is gone when it sends something, such as a heartbeat.
        return Response(server_sent_events(tokens, heartbeat=5), headers=SSE_HEADERS)

    app.run(port=int(os.environ.get("PORT", "8000")))
