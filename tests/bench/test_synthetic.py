"""Made-up samples take every task through the trainer's own step."""

import pytest
import torch

from unclip.bench import train_config
from unclip.bench.synthetic import Ready, synthetic_task, synthetic_trainer
from unclip.clip import clip_preset
from unclip.config import Config
from unclip.models import decoder_preset, prior_preset, upsampler_preset
from unclip.training import Cluster, Feed

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("stage", "network"),
    [
        ("clip", clip_preset("tiny")),
        ("prior", prior_preset("tiny")),
        ("prior", prior_preset("tiny").replace(num_text_tokens=0, self_conditioning=True)),
        ("decoder", decoder_preset("tiny")),
        ("decoder", decoder_preset("tiny").replace(text_dim=32)),
        ("upsampler_32", upsampler_preset("tiny")),
        ("upsampler_32", upsampler_preset("tiny").replace(noise_conditioning=True)),
    ],
)
def test_a_step_changes_every_kind_of_network(stage: str, network: Config) -> None:
    config = train_config(f"tiny/{stage}", network).replace(batch_size=4, micro_batch_size=2, precision="float32")
    trainer = synthetic_trainer(config, Cluster(0, 1, CPU))
    before = [parameter.clone() for parameter in trainer.state.network.parameters()]
    reports = [trainer.step() for _ in range(2)]
    assert [report.images_seen for report in reports] == [4, 8]
    assert all(report.metrics["skipped"] == 0.0 for report in reports)
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.state.network.parameters(), strict=True))


def test_a_batch_that_lies_ready_is_the_samples_first() -> None:
    config = train_config("tiny/decoder", decoder_preset("tiny")).replace(batch_size=4)
    feed = Feed(ready := Ready(synthetic_task(config, CPU).samples), config, Cluster(0, 1, CPU))
    first = ready(feed.request(0))
    assert ready(feed.request(4)) is first
    torch.testing.assert_close(first["noise"], ready.samples(feed.request(0))["noise"])


def test_balance_positives_and_classes_read_nothing() -> None:
    """Their fields are those of a data set, which need not be there."""
    config = train_config("tiny/clip", clip_preset("tiny")).replace(batch_size=4, precision="float32")
    fields = ("concept",)
    task = config.task.replace(positives=fields, classes=fields, teacher="nowhere", phrases="nothing")
    config = config.replace(data=config.data.replace(balance=fields), task=task)
    assert synthetic_trainer(config, Cluster(0, 1, CPU)).step().images_seen == 4
