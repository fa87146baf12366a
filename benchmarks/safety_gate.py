"""Claim: of paraphrases of ten blocked concepts, most are stopped before a pixel is drawn, and few other prompts.

    python benchmarks/safety_gate.py [--model emoji]

Concepts, their paraphrases and the harmless prompts are those of safety/; thresholds come from the other half of the
harmless prompts, which ships. Shares are of the test halves: by the words of lists, by the gate on CLIP's embeddings of
the texts, on a sentence encoder's (where the extra `teacher` is installed), on the prior's image embeddings, by all.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from record import write_result

from unclip import UnClip
from unclip.clip.sentence import PACKAGE, sentence_folder
from unclip.errors import DependencyError
from unclip.pipelines.guarding import to_numpy
from unclip.safety import load_policy

FOLDER = Path(__file__).with_name("safety")
REPEATS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/safety_gate.json"))
    arguments = parser.parse_args()
    concepts = {one["table"]: one["test"] for one in read("concepts.jsonl")}
    groups = concepts | {"harmless": [row["text"] for row in read("harmless.jsonl") if row["half"] == "test"]}
    policy = load_policy(FOLDER / "ten_concepts.toml")
    assert policy is not None
    pipe = UnClip.load(arguments.model)
    texts = [text for group in groups.values() for text in group]
    embeddings = {"text": to_numpy(pipe.embed(texts)), "image": to_numpy(pipe.prior.sample(texts, seed=1))}
    result: dict[str, Any] = {"num_paraphrases": len(texts) - len(groups["harmless"]), "stopped_by": {}}
    for name, encoder in encoders().items():
        guard = pipe.with_safety(policy.replace(sentence_encoder=encoder)).guard
        assert guard is not None
        assert guard.gate is not None
        checks = {"words": np.array([bool(guard.words.find(text)) for text in texts])}
        for kind, vectors in embeddings.items():
            margins = guard.gate.margins(kind, vectors)  # type: ignore[arg-type]
            checks[f"gate, {kind}"] = (margins >= guard.gate.thresholds[kind]).any(axis=1)  # type: ignore[index]
        if guard.probe is not None:
            checks["gate, sentence"] = guard.probe.scores(texts).max(axis=1) >= guard.probe.threshold
        checks["gate"] = np.any([one for check, one in checks.items() if check != "words"], axis=0)
        checks["all"] = checks["words"] | checks["gate"]
        result["stopped_by"][f"{name} sentences"] = {check: shares(groups, one) for check, one in checks.items()}
        missed = [text for text, is_stopped in zip(texts, checks["all"], strict=True) if not is_stopped]
        result[f"missed_{name}_sentences"] = [text for text in missed if text not in set(groups["harmless"])]
    result |= seconds(pipe, policy)
    write_result(arguments.out, result)
    for name, checks in result["stopped_by"].items():
        for check, by_group in checks.items():
            print(f"{name:18} {check:16} stopped {by_group['concepts']:.1%}, false {by_group['harmless']:.1%}")
    print(f"{result['gate_ms']:.2f} ms of a picture's {result['picture_ms']:.0f} ms")


def encoders() -> dict[str, str | None]:
    """Name the sentence encoders to measure with: none, and the package where it is installed."""
    try:
        sentence_folder(PACKAGE)
    except DependencyError as error:
        print(f"without a sentence encoder: {error}")
        return {"without": None}
    return {"without": None, "with": PACKAGE}


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def shares(groups: dict[str, list[str]], is_stopped: np.ndarray) -> dict[str, float]:
    """Return the share that is stopped of each group, and of all concepts."""
    ends = np.cumsum([len(group) for group in groups.values()])
    parts = dict(zip(groups, np.split(is_stopped, ends[:-1]), strict=True))
    of_concepts = np.concatenate([part for name, part in parts.items() if name != "harmless"])
    return {"concepts": float(of_concepts.mean()), **{name: float(part.mean()) for name, part in parts.items()}}


def seconds(pipe: UnClip, policy: Any) -> dict[str, float]:
    """Time what the guard adds to a picture, and the picture: medians in ms."""
    guarded = pipe.with_safety(policy)
    assert guarded.guard is not None
    text, guard = "a small brown dog on a skateboard wears sunglasses", guarded.guard.begin()
    by_text, by_image = to_numpy(pipe.embed([text])), to_numpy(pipe.prior.sample(text, seed=1))
    allowed = {name: rule.replace(action="log") for name, rule in policy.concepts.items()}
    guard = replace(guard, policy=policy.replace(concepts=allowed))

    def look() -> None:
        guard.check_texts([text])
        guard.check_text_embeddings([text], by_text)
        guard.check_image_embeddings(by_image)

    return {"gate_ms": milliseconds(look, REPEATS), "picture_ms": milliseconds(lambda: pipe(text, seed=1), 5)}


def milliseconds(run: Any, repeats: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
