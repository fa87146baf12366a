"""Weights of other libraries as native configs and tensors. Knows networks and names; reads and writes no files."""

__all__: list[str] = []
