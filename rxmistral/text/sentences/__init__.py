"""Text to sentences, while it is being received.

text ──▶ operator ──▶ cutter ──▶ boundaries ──▶ segmenters ──▶ sentencex
         `sentences`  finds      asks whether   the view of      ▲
         and its      stops,     a sentence     an engine        │
         timer        cuts       ends there         └──▶ full_stops ◀── abbreviations/
                        │             │                  of abbreviations
                        └─────────────┴──▶ markup, quotations, characters
"""
