"""Text in, text out: words, sentences, code blocks, JSON, pacing. Knows no Mistral."""
