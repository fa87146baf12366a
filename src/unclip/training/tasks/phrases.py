"""Phrases without pictures, and to which classes a sentence encoder assigns them: lessons of CLIP's text tower, and
further captions of the pictures of these classes."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from unclip.checkpoint import file_hash
from unclip.clip import SentenceEncoder, sentence_folder
from unclip.data import Item, PictureSet, ShardSet, cache_beside, emoji_phrases, read_groups
from unclip.errors import DataError
from unclip.files import atomic_path
from unclip.training.config import DataConfig, ParaphraseConfig, PhraseSettings
from unclip.training.tasks.samples import UsablePictures

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
    def read(cls, data: DataConfig, task: PhraseSettings, pictures: PictureSet, groups: np.ndarray) -> "Classes":
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
    def open(cls, task: PhraseSettings, teacher: str, classes: Classes, folder: Path) -> "Phrases":
        """Read the list of `task` and the texts of the classes, and ask the `teacher`.

        What it says is kept in `folder`.
        """
        own, listed = sorted({text for texts in classes.texts for text in texts}), _read_list(task.phrases)
        texts = list(dict.fromkeys([*listed, *own]))
        stamp = _stamp(teacher, [*texts, *classes.names, *(json.dumps(of_class) for of_class in classes.texts)])
        path = folder / f"phrases-{stamp}.npz"
        if not path.exists():
            # Apart, so that new captions leave the embeddings of a long list alone.
            vectors = dict(zip(listed, embed_texts(teacher, listed, folder), strict=True))
            vectors |= dict(zip(own, embed_texts(teacher, own, folder), strict=True))
            likeliest, probs = assign(torch.stack([vectors[text] for text in texts]), vectors, classes)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, classes=likeliest.numpy(), probs=probs.numpy())
        with np.load(path) as kept:
            return cls(texts, torch.from_numpy(kept["classes"]), torch.from_numpy(kept["probs"]))

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
    path = folder / f"teacher-{_stamp(teacher, texts)}.npy"
    if not path.exists():
        rows = SentenceEncoder.load(teacher).encode(texts).half().numpy()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, rows)
    return torch.from_numpy(np.load(path)).float()


def _stamp(teacher: str, texts: Sequence[str]) -> str:
    weights = file_hash(sentence_folder(teacher) / "model.safetensors")
    return hashlib.sha256("\n".join([weights, *texts]).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class ParaphrasedPictures(UsablePictures):
    """A `PictureSet` whose captions include the phrases of each picture's class."""

    classes: Int64[Tensor, " samples"]
    phrases: list[tuple[str, ...]]
    """Of each class."""

    def captions(self, index: int) -> tuple[str, ...]:
        return (*self.pictures.captions(index), *self.phrases[int(self.classes[index])])

    def item(self, index: int) -> Item:
        return replace(self.pictures.item(index), captions=self.captions(index))


def with_paraphrases(pictures: PictureSet, data: DataConfig, config: ParaphraseConfig | None) -> PictureSet:
    """Add to the captions what a teacher finds to mean the same; without a `config` nothing is added."""
    if config is None:
        return pictures
    values = read_groups(data.folder, config.classes, pictures.keys, "task.paraphrases.classes")
    classes = Classes.read(data, config, pictures, values)
    phrases = Phrases.open(config, config.teacher, classes, cache_beside(data.folder))
    # A caption may say what is so of one picture alone, such as its design.
    captions = {text for index in range(len(pictures)) for text in pictures.captions(index)}
    is_new = np.array([text not in captions for text in phrases.texts])
    return ParaphrasedPictures(pictures, classes.of_sample, _of_classes(phrases, is_new, len(classes.names), config))


def _of_classes(
    phrases: Phrases, is_new: np.ndarray, num_classes: int, config: ParaphraseConfig
) -> list[tuple[str, ...]]:
    likeliest, probs = phrases.classes[:, 0].numpy(), phrases.probs[:, 0].numpy()
    of_classes = []
    for number in range(num_classes):
        rows = np.flatnonzero((likeliest == number) & (probs >= config.min_prob) & is_new)
        rows = rows[np.argsort(-probs[rows], kind="stable")]
        if len(rows) > config.max_count:
            rows = rows[np.linspace(0, len(rows) - 1, config.max_count).round().astype(int)]
        of_classes.append(tuple(phrases.texts[row] for row in rows.tolist()))
    return of_classes


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
