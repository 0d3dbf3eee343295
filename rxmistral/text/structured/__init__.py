"""JSON text to values, while it is being received.

text ──▶ locator ────────────▶ incremental_parser ──▶ operators
         where the JSON        the value so far       parsed    the value, when it is whole
         begins, in prose      open_containers        partials  the value as it grows
         or a code block            │                 items     the items of an array
             │                      ▼
    first_characters            schema
    how JSON of the             what can be shown before it is whole
    type begins
"""
