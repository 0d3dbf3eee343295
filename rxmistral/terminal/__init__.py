"""The command in a terminal: its screen, Markdown, prompts, and a chat made of them."""
