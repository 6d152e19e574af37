"""The figures of docs/measurements.md, each made by one command."""
