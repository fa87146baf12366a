"""Learn the concepts of a safety policy in a model: embeddings of their examples, computed once and kept."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unclip.checkpoint import load_tensors, save_tensors
from unclip.clip.sentence import SentenceEncoder
from unclip.data import cache_folder
from unclip.errors import CheckpointError, InputError
from unclip.model.family import Condition
from unclip.pictures import open_picture
from unclip.pipelines.features import Features, encode_pictures, encode_prompts
from unclip.pipelines.guarding import to_numpy
from unclip.pipelines.job import Chain, begin
from unclip.pipelines.model import Model
from unclip.progress import say
from unclip.safety import ConceptGate, ConceptProbe, ConceptRule, SafetyPolicy
from unclip.safety.concepts import Kind, harmless_texts
from unclip.safety.text import list_words

KIND = "concept_examples"
HARMLESS = "harmless texts"
"""The name of what concepts are told apart from, beside their own."""
SEED, BATCH_SIZE = 0, 16


def open_probe(policy: SafetyPolicy) -> ConceptProbe | None:
    """Open the sentence encoder of a policy with a probe for its concepts, which is fitted once and kept in the cache.

    Examples are the words of a concept and, where it is called as a list that ships, of the list. None where the policy
    has no encoder, or no concept with words; raises as `SentenceEncoder.load`.
    """
    rules = {name: rule for name, rule in policy.concepts.items() if rule.action != "off" and rule.words}
    if policy.sentence_encoder is None or not rules:
        return None
    encoder = SentenceEncoder.load(policy.sentence_encoder)
    texts = {name: list(dict.fromkeys([*rule.words, *list_words(name)])) for name, rule in rules.items()}
    known = json.dumps([texts, harmless_texts(), policy.sentence_encoder])
    path = cache_folder() / "concepts" / f"{hashlib.sha256(known.encode()).hexdigest()[:32]}.safetensors"

    def embed(some: Sequence[str]) -> np.ndarray:
        return to_numpy(encoder.encode(some))

    with suppress(CheckpointError, KeyError):  # of a file that is not there, or damaged
        kept = load_tensors(path)[0]
        return ConceptProbe(tuple(rules), kept["weights"].double().numpy(), float(kept["threshold"]), embed)
    say("learning the concepts of the policy by the sentence encoder (once)")
    probe = ConceptProbe.fit(texts, harmless_texts(), embed)
    tensors = {"weights": torch.from_numpy(probe.weights), "threshold": torch.tensor(probe.threshold)}
    save_tensors(path, tensors, {"format": "unclip", "kind": KIND})
    return probe


def open_gate(model: Model, policy: SafetyPolicy) -> ConceptGate | None:
    """Make the gate of a policy's concepts in a model; None where it has none.

    What a model makes of the examples is kept in the cache (UNCLIP_CACHE, or ~/.cache/unclip). Raises `InputError`
    where the model has no CLIP, and for a picture that cannot be read.
    """
    rules = {name: rule for name, rule in policy.concepts.items() if rule.action != "off"}
    if not rules:
        return None
    if "clip" not in model.encoders:
        raise InputError(f"the policy has concepts, and {model.name!r} has no CLIP to know them by; leave them out.")
    texts = {HARMLESS: harmless_texts(), **{name: list(rule.words) for name, rule in rules.items()}}
    path = cache_folder() / "concepts" / f"{_digest(model, rules, texts)}.safetensors"
    vectors: dict[str, Tensor] = {}
    with suppress(CheckpointError):  # of a file that is not there, or damaged
        vectors = load_tensors(path)[0]
    if not vectors:
        say(f"learning the concepts of the policy in the model {model.name} (once)")
        vectors = _embed_examples(model, rules, texts)
        save_tensors(path, vectors, {"format": "unclip", "kind": KIND})
    examples = {name: {kind: to_numpy(vectors[f"{kind}.{name}"]) for kind in _kinds(vectors)} for name in texts}
    harmless = examples.pop(HARMLESS)
    return ConceptGate.calibrate(examples, harmless, {name: rule.threshold for name, rule in rules.items()})


def _kinds(vectors: Mapping[str, Tensor]) -> list[Kind]:
    kinds: tuple[Kind, ...] = ("text", "image")
    return [kind for kind in kinds if f"{kind}.{HARMLESS}" in vectors]


@torch.no_grad()
def _embed_examples(
    model: Model, rules: Mapping[str, ConceptRule], texts: Mapping[str, list[str]]
) -> dict[str, Tensor]:
    """Embed texts by CLIP ("text"), and as image embeddings: what the prior makes of them, and CLIP of pictures.

    Without a prior there is nothing harmless to compare pictures with, and no "image".
    """
    prompts, counts = [text for one in texts.values() for text in one], [*map(len, texts.values())]
    text, null = encode_prompts(model, prompts)
    vectors = dict(zip((f"text.{name}" for name in texts), text.embedding.cpu().split(counts), strict=True))
    if "prior" not in model.stages:
        return vectors
    options = {"seed": SEED, "batch_size": BATCH_SIZE, "progress": True}
    job = begin(model, options, num_inputs=len(prompts), uses_prior=True, uses_decoder=False, chain=Chain([], []))
    features = Features(text, null, text.embedding[:0], Condition(text, null), {})
    rows = torch.cat(job.sample_prior(features, model.num_candidates)).float().cpu()
    vectors |= dict(zip((f"image.{name}" for name in texts), rows.split(counts), strict=True))
    for name, rule in rules.items():
        if rule.pictures:
            seen = encode_pictures(model, [open_picture(path) for path in rule.pictures])
            of_pictures = model.need_decoder.from_clip(seen).float().cpu()
            vectors[f"image.{name}"] = torch.cat([vectors[f"image.{name}"], of_pictures])
    return vectors


def _digest(model: Model, rules: Mapping[str, ConceptRule], texts: Mapping[str, list[str]]) -> str:
    """Return what tells the examples, and the weights that embed them, from all others."""
    pictures = {name: [_hash(path) for path in rule.pictures] for name, rule in rules.items()}
    digest, source = hashlib.sha256(json.dumps([texts, pictures]).encode()), model.source()
    for part in ("clip", "prior"):
        for name, tensor in sorted(source.networks[part].tensors.items() if part in source.networks else ()):
            digest.update(name.encode() + tensor.read().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"the picture {path} of a concept cannot be read ({error.strerror}).") from None
