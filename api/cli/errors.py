"""What makes a command fail."""


class CommandError(Exception):
    """A command cannot do what was asked; the message is the sentence for the caller."""
