"""Foreign weights as native ones: names, layouts and configurations of other libraries. Knows no pipeline."""

__all__: list[str] = []
