"""A concept for other tools: as a LoRA and an embedding, with a card, in one zip."""
