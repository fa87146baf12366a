"""Weights of other libraries: what they call each part of our networks. Knows names and shapes, not pipelines."""

__all__: list[str] = []
