"""Held-out figures are those of the samples, however these are cut into batches and passes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from short_runs import ALONE, changed, steps

from unclip.training import Feed, TrainConfig

STAGES = {
    "emoji/prior": {"self_conditioning": True},
    "emoji/decoder": {"self_conditioning": True, "num_drawn": 4},
    "emoji/upsampler_256": {"degradation": "bsr"},
}


@pytest.mark.parametrize("name", STAGES)
def test_figures_depend_neither_on_the_batch_nor_on_the_pass(
    name: str, tiny_recipe: Callable[[str], TrainConfig]
) -> None:
    """Batches of 8 hold all samples, batches of 2 end in a shorter one."""
    config = changed(tiny_recipe(name), validation_share=0.4, num_validation=5, **STAGES[name])
    trainer = steps(config).trainer
    figures = []
    for batch_size, num_rows in ((8, None), (8, 2), (2, None), (2, 1)):
        cut = config.replace(batch_size=batch_size, micro_batch_size=num_rows)
        feed = Feed(trainer.task.samples, cut, ALONE)
        assert len(feed.held_out) == 5
        figures.append(replace(trainer, config=cut, feed=feed).validate())
    assert {"held_out_loss", "held_out_loss_online"} <= figures[0].keys()
    for others in figures[1:]:
        assert others == pytest.approx(figures[0], rel=1e-4, abs=1e-6)
