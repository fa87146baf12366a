"""What CLIP's text tower learns without pictures: phrases, and to which classes a sentence encoder assigns them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from unclip.checkpoint import file_hash
from unclip.clip import SentenceEncoder, sentence_folder
from unclip.data import PictureSet, ShardSet, emoji_phrases
from unclip.errors import DataError
from unclip.files import atomic_path
from unclip.training.config import ClipTaskConfig, DataConfig

TEXTS_PER_CLASS = 12
"""Texts that stand for a class: its name and the shortest others. 24 find no more unseen phrases, 8 fewer."""
NUM_CLASSES = 32
"""Likeliest classes of a phrase that are kept."""
TEMPERATURE = 0.04
"""Of the teacher's similarities: the right concepts of 97 unseen phrases are likeliest between 0.03 and 0.05."""
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Classes:
    """Groups of samples, numbered from 0, and the texts about each."""

    of_sample: Int64[Tensor, " samples"]
    names: list[str]
    """The values of the fields that define each class, joined by spaces."""
    texts: list[list[str]]
    """Texts about each class: its name, then the shortest others."""

    @classmethod
    def read(cls, data: DataConfig, task: ClipTaskConfig, pictures: PictureSet, groups: np.ndarray) -> "Classes":
        """Number the `groups` (one a sample) and collect what is said about the samples of each.

        Texts are captions, and lists of texts in the fields `task.class_texts` of a sample's .json.
        """
        _, first, of_sample = np.unique(groups, return_index=True, return_inverse=True)
        shards = ShardSet.open(data.folder)
        number_of = {key: number for number, key in enumerate(shards.keys)}
        infos = [shards.info(number_of[key]) for key in pictures.keys]
        names = [" ".join(str(infos[index][name]) for name in task.classes) for index in first]
        texts: list[set[str]] = [set() for _ in names]
        for index, row in enumerate(of_sample.tolist()):
            texts[row].update(pictures.captions(index))
            texts[row].update(text for name in task.class_texts for text in infos[index].get(name) or ())
        others = [sorted(filter(str.strip, of_class), key=lambda text: (len(text), text)) for of_class in texts]
        kept = [[name, *(text for text in own if text != name)] for name, own in zip(names, others, strict=True)]
        return cls(torch.from_numpy(of_sample), names, [of_class[:TEXTS_PER_CLASS] for of_class in kept])


@dataclass(frozen=True, eq=False)
class Phrases:
    """Texts without pictures, each with its likeliest classes by the teacher; picklable."""

    texts: list[str]
    classes: Int32[Tensor, "phrases likeliest"]
    probs: Float[Tensor, "phrases likeliest"]
    """Their probabilities, which sum to 1."""

    @classmethod
    def open(cls, task: ClipTaskConfig, classes: Classes, folder: Path) -> "Phrases":
        """Read the list of `task` and the texts of the classes, and ask the teacher; embeddings stay in `folder`."""
        assert task.teacher is not None, "phrases need a teacher"
        own, listed = sorted({text for texts in classes.texts for text in texts}), _read_list(task.phrases)
        # Apart, so that new captions leave the embeddings of a long list alone.
        vectors = dict(zip(listed, embed_texts(task.teacher, listed, folder), strict=True))
        vectors |= dict(zip(own, embed_texts(task.teacher, own, folder), strict=True))
        likeliest, probs = assign(torch.stack(list(vectors.values())), vectors, classes)
        return cls(list(vectors), likeliest, probs)

    def rows(self, draws: Float[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """Choose a phrase for each of these numbers in [0, 1)."""
        return (draws * len(self.texts)).long()


def assign(
    phrases: Float[Tensor, "phrases dim"], vectors: dict[str, Tensor], classes: Classes
) -> tuple[Int32[Tensor, "phrases likeliest"], Float[Tensor, "phrases likeliest"]]:
    """Return the likeliest classes of phrases and their probabilities, softmax(similarity / TEMPERATURE).

    The similarity to a class is the mean of those to its name and to the nearest of its texts; `vectors` has the
    embedding of each. The nearest text finds synonyms; the name keeps a tag that many classes share from deciding.
    """
    names = torch.stack([vectors[name] for name in classes.names])
    texts = torch.stack([vectors[text] for of_class in classes.texts for text in of_class])
    lengths = torch.tensor([len(of_class) for of_class in classes.texts])
    likeliest, probs = [], []
    for chunk in phrases.split(CHUNK):
        nearest = torch.segment_reduce(texts @ chunk.T, "max", lengths=lengths, axis=0)  # (classes, chunk)
        similarity = (nearest + names @ chunk.T).T / 2
        values, indices = similarity.topk(min(NUM_CLASSES, len(names)), dim=1)
        likeliest.append(indices.int())
        probs.append((values / TEMPERATURE).softmax(dim=1))
    return torch.cat(likeliest), torch.cat(probs)


def embed_texts(teacher: str, texts: Sequence[str], folder: Path) -> Float[Tensor, "texts dim"]:
    """Embed texts by the sentence encoder `teacher`, once: kept in `folder` as float16, by a hash of both."""
    weights = file_hash(sentence_folder(teacher) / "model.safetensors")
    content = hashlib.sha256("\n".join([weights, *texts]).encode()).hexdigest()
    path = folder / f"teacher-{content[:16]}.npy"
    if not path.exists():
        rows = SentenceEncoder.load(teacher).encode(texts).half().numpy()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, rows)
    return torch.from_numpy(np.load(path)).float()


def _read_list(phrases: str | None) -> list[str]:
    """Read a list of phrases: "emoji", a file with one a line, or none; raises `DataError` for a missing file."""
    if phrases is None:
        return []
    if phrases == "emoji":
        return list(emoji_phrases())
    try:
        lines = Path(phrases).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"task.phrases={phrases} cannot be read ({error}); give a text file, or emoji.") from None
    return [line.strip() for line in lines if line.strip()]
