"""Many texts in little memory. Knows what neither of them means."""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

__all__ = ["Texts"]


class Texts(Sequence[str]):
    """Texts as one run of bytes: a list of millions takes ten times as much, and is copied in each worker."""

    def __init__(self, texts: Iterable[str]) -> None:
        # The names in a tar need not be UTF-8.
        encoded = [text.encode(errors="surrogateescape") for text in texts]
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._text = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self._text[self._ends[place] : self._ends[place + 1]].decode(errors="surrogateescape")
