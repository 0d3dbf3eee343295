"""Text to text, sentences, code blocks and values; knows no HTTP and no Mistral.

    text ──┬──▶ words_lines   words, lines, paragraphs
           ├──▶ sentences/    sentences
           ├──▶ code_blocks   fenced code blocks
           ├──▶ structured/   values of JSON
           ├──▶ joined        the whole text
           ├──▶ pacing        an even flow, or fewer and longer pieces
           └──▶ guard         text without the matches of a pattern (partial_match)

`text_stream` has the class that most of them return, with all of them as methods.
Each operator runs a `rx.state_machine`, and accepts `str` only (inputs).
"""
