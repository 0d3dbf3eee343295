"""Mistral's chunks: decoded, reduced to what is in them, added up."""
