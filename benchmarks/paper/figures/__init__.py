"""The figures of the paper: attention, compositions, planes, sizes, sheets and tables."""
