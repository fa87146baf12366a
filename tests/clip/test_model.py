"""Both towers: shapes, causality, independence of batch and padding, precision, and that they learn."""

import math
import subprocess
import sys

import pytest
import torch

from unclip.clip import Clip, clip_preset, contrastive_loss
from unclip.clip.model import first_end, normalize_pixels, token_mask
from unclip.images import resize

CONFIG = clip_preset("tiny")
START, END = CONFIG.end_token - 1, CONFIG.end_token


@pytest.fixture
def clip() -> Clip:
    return Clip(CONFIG).eval()


def tokens(*lengths: int, length: int = CONFIG.context_length) -> torch.Tensor:
    """Random prompts of the given numbers of tokens, framed and padded."""
    ids = torch.zeros(len(lengths), length, dtype=torch.int64)
    for row, count in enumerate(lengths):
        ids[row, : count + 2] = torch.tensor([START, *torch.randint(1, START, (count,)).tolist(), END])
    return ids


def test_mask_ends_with_the_first_end_token() -> None:
    ids = torch.tensor([[START, 5, END, 0, 0], [START, END, 7, END, 0], [START, 1, 2, 3, END]])
    assert first_end(ids, END).tolist() == [2, 1, 4]
    assert token_mask(ids, END).sum(dim=1).tolist() == [3, 2, 5]
    assert token_mask(ids, END)[1].tolist() == [True, True, False, False, False]


@torch.no_grad()
def test_shapes_and_dtypes(clip: Clip) -> None:
    features = clip.encode_tokens(tokens(1, 5, 14))
    assert features.embedding.shape == (3, CONFIG.embedding_dim)
    assert features.hidden.shape == (3, CONFIG.context_length, CONFIG.text_width)
    assert features.mask.sum(dim=1).tolist() == [3, 7, 16]
    assert clip.encode_pixels(torch.zeros(2, 3, 16, 16)).shape == (2, CONFIG.embedding_dim)


@torch.no_grad()
@pytest.mark.parametrize("stem", [(8,), (8, 12, 16)])
def test_a_stem_makes_as_many_tokens_as_patches(stem: tuple[int, ...]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = Clip(CONFIG.replace(stem=stem)).eval()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert clip.vision.patch_embedding(images).shape == (2, CONFIG.vision_width, 2, 2)
    embeddings = clip.encode_pixels(images)
    torch.testing.assert_close(clip.encode_pixels(images, torch.float64), embeddings, atol=1e-5, rtol=1e-4)
    moved = images.clone()
    moved[:, :, 13:, 13:] *= -1
    assert (clip.encode_pixels(moved) - embeddings).abs().max() > 1e-3


def test_a_stem_begins_without_its_blocks() -> None:
    clip = Clip(CONFIG.replace(stem=(8,)))
    block = clip.vision.patch_embedding.blocks[0]
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(block(x), x)
    block(x).square().sum().backward()
    assert block.conv_2.weight.grad.abs().max() > 0


def test_several_texts_are_embedded_with_one_image(clip: Clip) -> None:
    images, ids, others = torch.zeros(2, 3, 16, 16), tokens(3, 4), tokens(1, 2)[:, :5]
    image, text, other = clip(images, ids, others)
    torch.testing.assert_close(image, clip.encode_pixels(images))
    torch.testing.assert_close(text, clip.encode_tokens(ids).embedding)
    torch.testing.assert_close(other, clip.encode_tokens(others).embedding)


@torch.no_grad()
def test_padding_does_not_matter(clip: Clip) -> None:
    ids = tokens(2, 4)
    whole, cut = clip.encode_tokens(ids), clip.encode_tokens(ids[:, :6])
    torch.testing.assert_close(cut.embedding, whole.embedding, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(cut.hidden, whole.hidden[:, :6], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_text_is_causal_and_reads_every_earlier_token(clip: Clip) -> None:
    ids = tokens(8)
    changed = ids.clone()
    changed[0, 4] = ids[0, 4] % (START - 1) + 1
    difference = (clip.encode_tokens(changed).hidden - clip.encode_tokens(ids).hidden).abs().amax(dim=-1)[0]
    assert difference[:4].max() == 0
    assert difference[4:].min() > 1e-5


@torch.no_grad()
def test_an_item_does_not_depend_on_its_batch(clip: Clip) -> None:
    images, ids = torch.rand(4, 3, 16, 16) * 2 - 1, tokens(3, 1, 9, 14)
    one = clip.encode_tokens(ids[2:3])
    torch.testing.assert_close(clip.encode_pixels(images)[2:3], clip.encode_pixels(images[2:3]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(clip.encode_tokens(ids).embedding[2:3], one.embedding, atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (64, 48), (7, 30)])
def test_pictures_of_any_size_are_squashed(clip: Clip, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size) * 2 - 1
    assert torch.equal(clip.encode_pixels(images), clip.encode_pixels(resize(images, 16)))


def test_pixels_of_the_mean_colour_become_zero() -> None:
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalize_pixels(2 * mean.expand(1, 3, 2, 2) - 1), torch.zeros(1, 3, 2, 2))
    white = normalize_pixels(torch.ones(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(white, torch.tensor([1.93033625, 2.07488384, 2.14589699]))


@torch.no_grad()
def test_bfloat16_weights_stay_close_and_give_float32(clip: Clip) -> None:
    images, ids = torch.rand(4, 3, 16, 16) * 2 - 1, tokens(3, 1, 9, 14)
    exact = torch.cat([clip.encode_pixels(images), clip.encode_tokens(ids).embedding])
    clip.to(torch.bfloat16)
    rough = torch.cat([clip.encode_pixels(images), clip.encode_tokens(ids).embedding])
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(rough, exact).min() > 0.999


def test_autocast_gives_close_features_and_gradients(clip: Clip) -> None:
    images, ids = torch.rand(8, 3, 16, 16) * 2 - 1, tokens(*range(1, 9))

    def gradient() -> torch.Tensor:
        clip.zero_grad()
        loss = contrastive_loss(clip.encode_pixels(images), clip.encode_tokens(ids).embedding, clip.logit_scale)
        loss.backward()
        return torch.cat([parameter.grad.flatten() for parameter in clip.parameters()])

    exact = gradient()
    with torch.autocast("cpu", torch.bfloat16):
        assert clip.encode_pixels(images).dtype == torch.float32
        rough = gradient()
    assert torch.nn.functional.cosine_similarity(rough, exact, dim=0) > 0.99


def test_initial_state(clip: Clip) -> None:
    torch.testing.assert_close(clip.logit_scale.exp().item(), 1 / 0.07)
    clip = Clip(CONFIG.replace(text_width=256, text_heads=4, vocab_size=2000))
    torch.testing.assert_close(clip.text.token_embedding.weight.std().item(), 0.02, rtol=0.02, atol=0)
    block = clip.text.blocks[0]
    for layer, std in [(block.qkv, 256**-0.5), (block.out, (2 * 2 * 256) ** -0.5), (block.ff_in, 256**-0.5)]:
        torch.testing.assert_close(layer.weight.std().item(), std, rtol=0.03, atol=0)
        assert not layer.bias.any()


COMPILE = """
import torch
from unclip.clip import Clip, clip_preset

clip = Clip(clip_preset("tiny")).eval()
images, ids = torch.rand(2, 3, 64, 64) * 2 - 1, torch.full((2, 16), clip.config.end_token)
for encode, batch in ((clip.encode_pixels, images), (clip.encode_tokens, ids)):
    compiled = torch.compile(encode, backend="eager", fullgraph=True)(batch)
    torch.testing.assert_close(compiled, encode(batch))
"""


def test_both_towers_compile_without_a_graph_break() -> None:
    """In a process of its own, since the tests' check of annotations is itself a graph break."""
    run = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_sixteen_pairs_can_be_learned_by_heart() -> None:
    clip = Clip(CONFIG)
    images, ids = torch.rand(16, 3, 16, 16) * 2 - 1, tokens(*[3] * 16)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=2e-3)
    for _ in range(80):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            features = clip.encode_pixels(images), clip.encode_tokens(ids).embedding
        loss = contrastive_loss(*features, clip.logit_scale)
        loss.backward()
        optimizer.step()
    assert math.isfinite(loss.item())
    assert loss.item() < 0.1 < math.log(16)
