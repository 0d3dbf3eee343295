"""Text that is JSON to values, while it is being received."""
