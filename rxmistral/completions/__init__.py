"""Mistral's chunks: decoded, reduced to their parts, added up.

block ──▶ fast_path ──────────────────────────────────┐
             └─▶ wire: lines, events ──▶ decoding ────┤
                               surrogates, repair ─┘  ▼
     finish (until_finished) ◀──────────────── completion ──▶ recorder (on_outcome)
                                                   │
          choice ◀─────────────────────────────────┼──▶ tool_calls
deltas, text, thinking                             ▼
            └─▶ think_tags      accumulator (growing_content) ──▶ response

several streams of completions ──▶ fallback (fallback, hedge) ──▶ completion
"""
