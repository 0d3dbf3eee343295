"""One call to the chat completions API, from its arguments to the stream of its answer."""
