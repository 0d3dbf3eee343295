"""What goes into a pipe, in the order of the way.

events ──completions()──▶ completions ──until_finished()──▶ completions
                              ├──deltas()──▶ deltas
                              └──text()────▶ text
"""

from .decoding import completions
from .ending import until_finished
from .parts import deltas, text

__all__ = ["completions", "deltas", "text", "until_finished"]
