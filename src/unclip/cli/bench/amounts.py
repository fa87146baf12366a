"""Bytes and operations as a person reads them. Knows numbers."""


def bytes_text(count: float) -> str:
    """12.3 MB, or 4.56 GB."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def flops_text(count: float) -> str:
    """Operations with three digits: 8.27 M, 12.3 G, 1.05 T, 2.1 P."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e6:.3g} M"
