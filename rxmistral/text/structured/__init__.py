"""JSON text to values, while it is being received.

text ──▶ locator ──────────▶ incremental_parser ──▶ operators
         where the JSON      the value so far,      parsed    the value, when it is whole
         begins, in prose         │                 partials  the value as it grows
         or a code block          │                 items     the items of an array
                                  ▼
                               schema: what can be shown before it is whole
"""
