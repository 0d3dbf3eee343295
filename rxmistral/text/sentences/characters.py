"""Classes of characters that sentence boundary detection distinguishes.

They are strings for the inside of a regular expression's brackets.
"""

__all__ = ["BULLETS", "CJK", "CLOSERS", "EMOJI", "NEED_SPACE", "STOPS"]

STOPS = ".!?…։؝؞؟۔܀܁܂।॥၊။።፧፨᙮᠃᠉។៕‼‽⁇⁈⁉⸮。．！？｡﹒﹖﹗"
NEED_SPACE = ".!?…"  # stops that end a sentence only before white space
CLOSERS = "\"'“”’»«›‹*_~`)\\]}」』）】》〉］｝"  # directly after a stop
EMOJI = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u200d\ufe0f\u20e3\U000e0020-\U000e007f"
BULLETS = "•◦‣▪▫●○■□"
CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"  # written without white space
