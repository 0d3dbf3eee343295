"""The terminal of the command: its input, its output, and a chat.

    stdin ──▶ prompts ──▶ chat ──▶ an Answer ──▶ printer ──▶ markdown (with rich) ──▶ screen
      └──▶ one prompt, for the command      ──▶ printer ──▶ ...

`screen` also writes to a file or a pipe, then without styles.
"""
