"""Mistral's chunks: decoded, reduced to their parts, added up.

block ──▶ fast_path ─────────────────────────────────────▶ completion
              └──▶ wire: lines, events ──▶ decoding ───────────▲
                                              └── repair

completion_stream     the class of an answer, with the operators below as methods

completion ──▶ choice          deltas, text, thinking; text ──▶ think_tags
           ──▶ tool_calls      whole calls from fragments
           ──▶ parts           everything of one answer, in order, and its ending; of a run,
                               also the results of tools (tool_parts)
           ──▶ accumulator     ──▶ response: to_response, snapshots,
                               usage, finish_reason
           ──▶ finish          until_finished, and the time that a body has to end
           ──▶ on_outcome      ──▶ outcome_builder: how it ended, and when

streams of completions ──▶ fallback (fallback, hedge) ──▶ completions of one of them
"""
