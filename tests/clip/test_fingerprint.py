"""The hash of a CLIP: equal for equal features, another one for each part that changes them."""

from pathlib import Path

import torch

from unclip.clip import Clip, TextImageEncoder, Tokenizer, clip_hash, clip_preset
from unclip.testing import TINY_TEXTS, tiny_tokenizer

CONFIG = clip_preset("tiny").replace(vocab_size=560)


def test_it_is_that_of_the_files_it_was_saved_to(tmp_path: Path) -> None:
    encoder = TextImageEncoder(Clip(CONFIG), tiny_tokenizer())
    encoder.save(tmp_path)
    assert clip_hash(TextImageEncoder.load(tmp_path)) == clip_hash(encoder)


def test_weights_settings_and_tokenizer_change_it() -> None:
    clip, tokenizer = Clip(CONFIG), tiny_tokenizer()
    cropping = Clip(CONFIG.replace(resize="crop"))
    cropping.load_state_dict(clip.state_dict())
    reversed_texts = Tokenizer.train([text[::-1] for text in TINY_TEXTS * 3], CONFIG.vocab_size)
    hashes = [
        clip_hash(TextImageEncoder(network, words))
        for network, words in ((clip, tokenizer), (cropping, tokenizer), (clip, reversed_texts))
    ]
    with torch.no_grad():
        clip.logit_scale.add_(1e-3)
    assert len({*hashes, clip_hash(TextImageEncoder(clip, tokenizer))}) == 4
