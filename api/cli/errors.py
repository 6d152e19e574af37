"""The error that ends a command."""


class CommandError(Exception):
    """A command cannot do what was asked; its message is printed for the caller."""
