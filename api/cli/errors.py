"""What makes a command fail."""


class CommandError(Exception):
    """A command cannot do what was asked; the caller sees the message."""
