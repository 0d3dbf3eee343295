"""Calls to the chat completions API: one answer, a run with tools, and a conversation.

    one answer     client ──▶ settings, request ──▶ event_stream ──▶ attempts ──▶ wire, completions
                                                                        └── policies/
    a run          run ──▶ event_stream, for each round            part_stream: its methods
                    ├── tool_rounds   the history, with the results
                    └── tool_runner   runs the calls ──▶ tools ──▶ type_schema
    conversation   conversation ──▶ answer ──▶ turn ──▶ run
                    ├── history, trimming   the messages to send
                    └── speculation         a run that begins before its prompt is final

`run_outcome` adds up the outcomes of a run, `conversation_settings` has the arguments of a
conversation, and `hints` answers the names that other SDKs use.
"""
