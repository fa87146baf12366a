"""Keep many texts in little memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, overload

import numpy as np
from jaxtyping import Int64, UInt8

# A lone surrogate, as a broken JSON escape leaves it or a name in a tar that is not UTF-8, is kept.
ERRORS = "surrogatepass"


@dataclass(frozen=True, eq=False)
class PackedTexts(Sequence[str]):
    """Texts as one run of bytes: a list of millions takes ten times as much, and is copied in each worker."""

    content: UInt8[np.ndarray, " bytes"]
    ends: Int64[np.ndarray, " ends"]
    """Text k is `content[ends[k]:ends[k + 1]]`, in UTF-8."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        encoded = [text.encode(errors=ERRORS) for text in texts]
        content = np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8)
        return cls(content, np.cumsum([0, *map(len, encoded)], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return self.content[self.ends[number] : self.ends[number + 1]].tobytes().decode(errors=ERRORS)
