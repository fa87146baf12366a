"""The upsampler: the small picture, crops, the augmentation level and sizes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unclip.errors import ConfigError, InputError
from unclip.models import Upsampler, upsampler_preset


def filled(**changes: object) -> nn.Module:
    upsampler = Upsampler(upsampler_preset("tiny").replace(**changes))
    with torch.no_grad():
        for parameter in upsampler.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return upsampler.eval()


X_T, TIME = torch.sin(torch.arange(6144.0)).view(2, 3, 32, 32), torch.tensor([3.0, 700.0])
LOW = torch.cos(torch.arange(384.0)).abs().view(2, 3, 8, 8)


def test_every_input_reaches_the_prediction() -> None:
    upsampler = filled(noise_conditioning=True)
    expected = upsampler(X_T, TIME, LOW, torch.zeros(2))
    assert expected.shape == X_T.shape
    for changed in (
        upsampler(X_T + 0.5, TIME, LOW, torch.zeros(2)),
        upsampler(X_T, TIME + 50, LOW, torch.zeros(2)),
        upsampler(X_T, TIME, LOW + 0.5, torch.zeros(2)),
        upsampler(X_T, TIME, LOW, torch.full((2,), 0.3)),
    ):
        assert (changed - expected).abs().max() > 1e-4


def test_the_small_picture_is_enlarged_by_antialiased_bicubic_unless_it_is_large() -> None:
    upsampler = filled()
    large = F.interpolate(LOW, size=(32, 32), mode="bicubic", antialias=True)
    torch.testing.assert_close(upsampler(X_T, TIME, LOW), upsampler(X_T, TIME, large), rtol=0, atol=1e-6)


def test_no_augmentation_is_level_zero() -> None:
    upsampler = filled(noise_conditioning=True)
    assert torch.equal(upsampler(X_T, TIME, LOW), upsampler(X_T, TIME, LOW, torch.zeros(2)))


def test_an_augmentation_that_is_not_read_is_refused() -> None:
    with pytest.raises(InputError, match=r"reads no augmentation \(noise_conditioning=False\)"):
        filled()(X_T, TIME, LOW, torch.zeros(2))


def test_any_shape_works_with_adaptive_conditioning_patches_and_learned_variance() -> None:
    upsampler = filled(conditioning="adaptive", patch_size=2, learned_variance=True)
    assert upsampler(torch.randn(1, 3, 16, 24), TIME[:1], torch.randn(1, 3, 4, 6)).shape == (1, 6, 16, 24)
    with pytest.raises(InputError, match=r"^height=18 is not divisible by 4 .*; use 16 or 20\.$"):
        upsampler(torch.randn(1, 3, 18, 24), TIME[:1], LOW[:1])


def test_bfloat16_weights_stay_near_float32() -> None:
    upsampler = filled()
    expected = upsampler(X_T, TIME, LOW)
    actual = upsampler.bfloat16()(X_T, TIME, LOW.bfloat16())
    assert (actual.float() - expected).square().mean() < 1e-3 * expected.square().mean()


def test_a_residual_upsampler_starts_as_bicubic_enlargement_and_adds_to_it() -> None:
    config = upsampler_preset("tiny").replace(residual=True, prediction_type="x0")
    large = F.interpolate(LOW, size=(32, 32), mode="bicubic", antialias=True)
    torch.testing.assert_close(Upsampler(config)(X_T, TIME, LOW), large)
    learned = filled(residual=True, prediction_type="x0", learned_variance=True)
    both = learned(X_T, TIME, LOW)
    torch.testing.assert_close(both[:, :3] - large, learned.unet(torch.cat([X_T, large], 1), emb(learned))[:, :3])
    torch.testing.assert_close(both[:, 3:], learned.unet(torch.cat([X_T, large], 1), emb(learned))[:, 3:])
    with pytest.raises(ConfigError, match=r"residual=True adds to a picture, not to 'eps'; predict 'x0'"):
        upsampler_preset("tiny").replace(residual=True, prediction_type="eps")


def emb(upsampler: nn.Module) -> torch.Tensor:
    return upsampler.time_embedding(TIME)


def test_with_pixel_norms_a_change_reaches_no_further_than_the_convolutions() -> None:
    """One level: 1 + 2 + 4 + 4 + 1 convolutions of 3 x 3 on a grid of 2 px reach 24 px; a group norm reaches all."""
    shape = {"base_channels": 32, "channel_mult": (1,), "num_res_blocks": 1, "patch_size": 2}
    changed = torch.zeros(1, 3, 96, 32)
    changed[:, :, :2] = 1.0
    reach = []
    for norm in ("pixel", "group"):
        upsampler = filled(norm=norm, **shape)
        low_res = torch.zeros(1, 3, 96, 32)
        moved = upsampler(changed, TIME[:1], low_res) - upsampler(torch.zeros_like(changed), TIME[:1], low_res)
        reach.append(int(moved.abs().amax(dim=(0, 1, 3)).gt(1e-7).nonzero().max()))
    assert reach == [25, 95]
