"""Prompts of an evaluation: lines of a file, COCO's captions, or captions of pictures."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unclip.data import Sample, open_source
from unclip.errors import DataError, InputError
from unclip.pipelines.settings import check_count, check_prompts
from unclip.runtime import seeded

# Zero-shot figures on COCO are of so many captions (GLIDE, DALL-E 2, Imagen).
COCO_PROMPTS = 30_000


@dataclass(frozen=True, kw_only=True)
class PromptList:
    """Texts to draw, in the order that they are drawn in."""

    name: str
    """Where they are from."""
    texts: tuple[str, ...]
    is_coco: bool = False
    """Whether they are COCO's annotations, of which 30,000 are drawn unless another number is asked for."""


def read_prompts(location: str | Path | Sequence[str]) -> PromptList:
    """Read all captions of a source: every line of a text file, every annotation of COCO's captions_*.json, and of
    anything that `unclip.data.open_source` reads the first caption of each picture. A sequence holds the texts.

    Raises `InputError` for a location that does not exist, `DataError` for one without text.
    """
    if not isinstance(location, str | Path):
        return PromptList(name=f"{len(location)} prompts", texts=tuple(check_prompts(location)))
    path = Path(location)
    if path.suffix.lower() == ".txt" and path.is_file():
        try:
            texts = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as UTF-8 text ({error}); save it again.") from None
    elif path.suffix.lower() == ".json" and path.is_file():
        return PromptList(name=str(location), texts=_annotations(path), is_coco=True)
    else:
        texts = [sample.captions[0] for sample in open_source(location) if isinstance(sample, Sample)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError(f"{location} holds no caption; give a text file with a prompt a line, or captioned pictures.")
    return PromptList(name=str(location), texts=tuple(texts))


def choose_prompts(prompts: PromptList, num_prompts: int | None, seed: int) -> PromptList:
    """Choose `num_prompts` of them by `seed`, in the order of the source; None is all, or COCO's 30,000.

    Raises `InputError` for more than there are.
    """
    available = len(prompts.texts)
    if num_prompts is None:
        num_prompts = min(COCO_PROMPTS, available) if prompts.is_coco else available
    if check_count("num_prompts", num_prompts) > available:
        raise InputError(
            f"{prompts.name} has {available} captions, but {num_prompts} are asked for; ask for at most {available}."
        )
    if num_prompts == available:
        return prompts
    chosen = torch.randperm(available, generator=seeded(seed))[:num_prompts].sort().values.tolist()
    return replace(prompts, texts=tuple(prompts.texts[place] for place in chosen))


def texts_id(texts: Sequence[str]) -> str:
    """Return the SHA-256, in hexadecimal, of texts in order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


# The annotations of COCO: images [{id, file_name}], annotations [{id, image_id, caption}].
def _annotations(path: Path) -> tuple[str, ...]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); fetch it again.") from None
    rows = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} has no list of annotations; give COCO's captions_val2014.json or one like it.")
    for row in rows:
        if not isinstance(row.get("caption"), str):
            raise DataError(
                f"{path}: annotation {row.get('id')} has no caption; give the file of captions, not of instances."
            )
    in_order = sorted(rows, key=lambda row: str(row.get("id", "")).zfill(20))
    texts = tuple(" ".join(row["caption"].split()) for row in in_order if row["caption"].strip())
    if not texts:
        raise DataError(f"{path} has annotations, but none with a caption; give the file of captions.")
    return texts
