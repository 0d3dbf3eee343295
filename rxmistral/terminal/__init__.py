"""What a terminal shows and reads: the screen, Markdown, prompts, and a chat made of them."""
