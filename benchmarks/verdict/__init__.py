"""Which verdicts people agree with: concepts, sheets for their eyes, and thresholds."""
