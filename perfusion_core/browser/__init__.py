"""What a page needs to draw concepts in a visitor's browser: graphs, their constants, prompts."""
