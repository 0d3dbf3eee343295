"""Text to sentences, while it is being received."""
