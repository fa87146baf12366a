"""The Inception network of the FID: its resizing, and what a batch and a layout do not change."""

import torch

from unclip.metrics import FeatureNetwork, Inception, InceptionFeatures
from unclip.metrics.inception import resize_like_tensorflow


def test_resize_samples_at_multiples_of_the_scale() -> None:
    """Of a picture that is linear in each direction, output (i, j) shows row i * 10 / 16 and column j * 23 / 16."""
    rows, columns = torch.arange(10.0), torch.arange(23.0)
    picture = (rows[:, None] + 7 * rows[:, None] * columns + 100 * columns)[None, None]
    found = resize_like_tensorflow(picture, 16)[0, 0]
    y = (torch.arange(16) * 10 / 16).clamp(max=9)[:, None]
    x = (torch.arange(16) * 23 / 16).clamp(max=22)
    torch.testing.assert_close(found, y + 7 * y * x + 100 * x, rtol=1e-6, atol=1e-4)


def test_resize_to_the_same_size_changes_nothing() -> None:
    picture = torch.randint(0, 256, (2, 3, 299, 299)).float()
    assert torch.equal(resize_like_tensorflow(picture, 299), picture)


@torch.no_grad()
def test_features_of_a_picture_do_not_depend_on_its_batch() -> None:
    network = InceptionFeatures(Inception())
    assert isinstance(network, FeatureNetwork)
    pictures = torch.randint(0, 256, (2, 3, 17, 31), dtype=torch.uint8)
    together, alone = network(pictures), network(pictures[1:])
    assert {name: rows.shape for name, rows in together.items()} == {
        "inception": (2, 2048),
        "inception_logits": (2, 1008),
    }
    for name, rows in alone.items():
        torch.testing.assert_close(rows, together[name][1:], rtol=1e-4, atol=1e-6)


def test_fingerprint_is_of_weights_not_of_their_layout() -> None:
    inception = Inception()
    before = InceptionFeatures(inception).fingerprint
    assert InceptionFeatures(inception.to(memory_format=torch.channels_last)).fingerprint == before
    with torch.no_grad():
        inception.Mixed_7c.branch_pool.bn.running_var[5] += 1e-3
    assert InceptionFeatures(inception).fingerprint != before
