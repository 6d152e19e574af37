"""The figures that the README quotes, each made by one command."""
