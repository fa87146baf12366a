"""Best of n: CLIP's order of the decoder's pictures, the winners as if drawn alone, and nothing else enlarged."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from unclip.errors import InputError
from unclip.images import to_pil
from unclip.pipelines import UnClip

PROMPTS = ["a red apple", "a cat"]


def test_the_nearest_come_first_and_can_be_drawn_alone(pipe: UnClip) -> None:
    """The order is that of the small pictures, each judged by hand."""
    best = pipe.text_to_image(PROMPTS, 2, best_of=3, seed=7, output_type="pt")
    small = pipe.text_to_image(PROMPTS, 3, seed=7, image_size=16, output_type="pt")
    seen = pipe.clip.encode_pictures(to_pil(torch.stack(small.images))).unflatten(0, (2, 3))
    scores = F.cosine_similarity(seen, pipe.clip.encode_text(PROMPTS).embedding[:, None], dim=-1)
    expected = scores.topk(2, dim=1)
    assert best.seeds == (7 + expected.indices).flatten().tolist()
    assert best.prompts == [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    torch.testing.assert_close(torch.tensor(best.settings["scores"]), expected.values.flatten(), atol=1e-3, rtol=0)
    assert best.settings["best_of"] == 3
    for k in (0, 2):
        alone = pipe.text_to_image(best.prompts[k], seed=best.seeds[k], output_type="pt")
        assert torch.equal(best.images[k], alone.images[0])


def test_only_the_best_are_enlarged_whatever_the_batches(pipe: UnClip) -> None:
    seen: list[tuple[str, int, int]] = []
    two = pipe.text_to_image("a cat", 2, best_of=5, seed=7, batch_size=2, progress=lambda *step: seen.append(step))
    assert {stage: total for stage, _, total in seen} == {"prior": 9, "decoder": 9, "clip": 3, "upsampler_32": 2}
    assert two.seeds == pipe.text_to_image("a cat", 2, best_of=5, seed=7).seeds


def test_the_judge_can_be_stopped(pipe: UnClip) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "clip":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.text_to_image("a cat", best_of=2, seed=7, progress=stop)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 3, "best_of": 2}, "best_of=2 pictures are too few to keep 3 of"),
        ({"best_of": 0}, "best_of=0 is not possible"),
        ({"num_images": 0, "best_of": 2}, "num_images=0 is not possible"),
    ],
)
def test_too_few_are_refused(pipe: UnClip, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe.text_to_image("a cat", **options)
