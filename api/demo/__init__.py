"""The demo: draw two subjects, teach them, and compose them over REST."""
