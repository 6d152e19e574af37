"""The error that ends a command."""


class CommandError(Exception):
    """A command cannot do what the caller asked; the error's message is printed for the caller."""
