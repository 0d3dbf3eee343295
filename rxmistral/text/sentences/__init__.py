"""Text to sentences, while it is being received.

text ──▶ operator ──────▶ cutter ────────────▶ boundaries ──────▶ segmenters
         sentences(),     the scan: lines,     does a sentence    sentencex, and
         the max_wait     code, formulas,      end at this stop?  full_stops with
         timer            stops                                   abbreviations/
                             └────── markup ──────┘
"""
