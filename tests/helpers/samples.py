"""What a source of captioned pictures gives, for comparing."""

from unclip.data import Sample, Source


def samples(source: Source) -> list[Sample]:
    """All of them; none is broken."""
    items = list(source)
    assert all(isinstance(item, Sample) for item in items), items
    return [item for item in items if isinstance(item, Sample)]


def captions(source: Source) -> dict[str, tuple[str, ...]]:
    return {sample.key: sample.captions for sample in samples(source)}
