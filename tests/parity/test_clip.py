"""Our CLIP equals `transformers`' on random weights, and our tokenizer its tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unclip.checkpoint import load_weights
from unclip.clip import Clip, ClipConfig, Tokenizer
from unclip.clip.model import normalize_pixels

transformers = pytest.importorskip("transformers")

TOLERANCE = {"atol": 1e-5, "rtol": 0.0}
CONFIGS = {
    "square": ClipConfig(
        embedding_dim=16,
        image_size=16,
        patch_size=8,
        vision_width=32,
        vision_layers=2,
        vision_heads=2,
        text_width=32,
        text_layers=2,
        text_heads=2,
        vocab_size=100,
        context_length=12,
    ),
    "all different": ClipConfig(
        embedding_dim=24,
        image_size=42,
        patch_size=14,
        vision_width=48,
        vision_layers=3,
        vision_heads=4,
        text_width=40,
        text_layers=1,
        text_heads=5,
        vocab_size=300,
        context_length=77,
        activation="gelu",
    ),
}
# Ours from theirs; several of theirs are stacked along the first axis.
BLOCK = {
    "norm_1": ["layer_norm1"],
    "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "out": ["self_attn.out_proj"],
    "norm_2": ["layer_norm2"],
    "ff_in": ["mlp.fc1"],
    "ff_out": ["mlp.fc2"],
}
REST = {
    "logit_scale": "logit_scale",
    "vision.class_embedding": "vision_model.embeddings.class_embedding",
    "vision.patch_embedding.weight": "vision_model.embeddings.patch_embedding.weight",
    "vision.position_embedding": "vision_model.embeddings.position_embedding.weight",
    "vision.pre_norm.weight": "vision_model.pre_layrnorm.weight",
    "vision.pre_norm.bias": "vision_model.pre_layrnorm.bias",
    "vision.final_norm.weight": "vision_model.post_layernorm.weight",
    "vision.final_norm.bias": "vision_model.post_layernorm.bias",
    "vision.projection.weight": "visual_projection.weight",
    "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text.position_embedding": "text_model.embeddings.position_embedding.weight",
    "text.final_norm.weight": "text_model.final_layer_norm.weight",
    "text.final_norm.bias": "text_model.final_layer_norm.bias",
    "text.projection.weight": "text_projection.weight",
}


def their_model(config: ClipConfig) -> torch.nn.Module:
    """A `transformers.CLIPModel` of the same shape, with weights large enough that a wrong one shows."""
    shared = {"projection_dim": config.embedding_dim, "hidden_act": config.activation}
    text = shared | {
        "hidden_size": config.text_width,
        "intermediate_size": 4 * config.text_width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_heads,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "bos_token_id": config.end_token - 1,
        "eos_token_id": config.end_token,
        "pad_token_id": 0,
    }
    vision = shared | {
        "hidden_size": config.vision_width,
        "intermediate_size": 4 * config.vision_width,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.vision_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
    }
    both = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.embedding_dim)
    model = transformers.CLIPModel(both).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def our_tensors(config: ClipConfig, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their state under our names; every one of theirs must be used once."""
    ours = {name: theirs.pop(source) for name, source in REST.items()}
    for tower, depth in (("vision", config.vision_layers), ("text", config.text_layers)):
        for index in range(depth):
            for name, sources in BLOCK.items():
                for kind in ("weight", "bias"):
                    parts = [theirs.pop(f"{tower}_model.encoder.layers.{index}.{source}.{kind}") for source in sources]
                    ours[f"{tower}.blocks.{index}.{name}.{kind}"] = torch.cat(parts)
    assert theirs == {}
    return ours


def pair(config: ClipConfig) -> tuple[Clip, torch.nn.Module]:
    theirs, ours = their_model(config), Clip(config).eval()
    load_weights(ours, our_tensors(config, theirs.state_dict()), "transformers")
    return ours, theirs


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_image_embedding(name: str) -> None:
    config = CONFIGS[name]
    ours, theirs = pair(config)
    images = torch.rand(3, 3, config.image_size, config.image_size) * 2 - 1
    expected = theirs.visual_projection(theirs.vision_model(normalize_pixels(images)).pooler_output)
    torch.testing.assert_close(ours.encode_pixels(images), expected, **TOLERANCE)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_text_embedding_and_hidden(name: str) -> None:
    config = CONFIGS[name]
    ours, theirs = pair(config)
    ids = torch.randint(1, config.end_token - 1, (3, config.context_length))
    ids[:, 0] = config.end_token - 1
    for row, end in enumerate((1, 5, config.context_length - 1)):
        ids[row, end] = config.end_token
        ids[row, end + 1 :] = 0
    features = ours.encode_tokens(ids)
    expected = theirs.text_model(input_ids=ids)
    torch.testing.assert_close(features.embedding, theirs.text_projection(expected.pooler_output), **TOLERANCE)
    torch.testing.assert_close(features.hidden, expected.last_hidden_state, **TOLERANCE)


def test_pixels_are_normalised_as_their_processor_does() -> None:
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    processor = transformers.CLIPImageProcessorPil(do_resize=False, do_center_crop=False, do_rescale=False)
    expected = processor(list(((images + 1) / 2).numpy()), return_tensors="pt", input_data_format="channels_first")
    torch.testing.assert_close(normalize_pixels(images), expected["pixel_values"], **TOLERANCE)


CORPUS = [
    "a red apple, noto style",
    "the quick brown foxes weren't jumping over the lazy dogs' 12 beds",
    "woman running: medium-dark skin tone, it's she'd we'll they've I'm you're",
    "grinning face with big eyes 😀, zebra, zèbre, 斑马",
] * 4
ODD = [
    "",
    " ",
    "\n\t  \r\n",
    "a",
    "A RED APPLE",
    "a  red\tapple\n",
    " leading and trailing ",
    "it's we'll they've I'm you're she'd don't",
    "IT'S WE'LL",
    "'s't're",
    "rock'n'roll 'quoted' \"double\"",
    "don’t — “curly” quotes…",
    "1234567890",
    "3.14 1,000 ½ ² ① Ⅳ ٣",
    "a1b2c3",
    "!!! ??? ...",
    "!@#$%^&*()_+-=[]{}|;:,./<>?`~",
    "hello,world!how are you?",
    "https://example.org/a?b=c&d=%20",
    "&amp; &lt;b&gt; &#39; &quot;",
    "<b>bold</b>",
    "<|startoftext|>",
    "<|endoftext|>",
    "a <|endoftext|> b <|startoftext|> c",
    "<|ENDOFTEXT|> <|endoftext",
    "< | endoftext | >",
    "</w> a</w>",
    "😀",
    "😀😀😀 zebra😀zebra",
    "👩🏿‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "☺️ ❤️ ✨",
    "斑马",
    "日本語 テキスト ひらがな",
    "한국어 텍스트",
    "한국어",
    "العربية نص",
    "עברית",
    "ελληνικά ΣΊΣΥΦΟΣ ς",
    "русский Ёжик",
    "ไทย ภาษา",
    "हिन्दी",
    "İstanbul ISPARTA ıi",
    "Straße STRASSE ẞ",
    "café cafe\u0301 CAFÉ",
    "ﬁ ﬂ Å Å Ω",
    "naïve façade",
    "x\u00a0y\u2003z\u200bw\ufeffv",
    "a\u0000b\u0007c",
    "\u2028\u2029",
    "𝒜𝓑𝕮 𝟙𝟚𝟛",
    "🜁𐍈𒀀",
    "\U0010ffff",
    "ǅ ǆ Ǆ",
    "ſ K",
    "zebra" * 40,
    "a red apple " * 40,
    "1 " * 100,
    "z" * 300,
    "斑" * 80,
    "😀" * 50,
    "_under_score_ snake_case CamelCase kebab-case",
    "C++ C# .NET \\backslash\\",
    "x²+y²=z² ∑∫√∞ ≠ ≤",
    "e\u0301\u0301\u0323",
]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, object]:
    """One vocabulary in OpenAI's two files, read by us and by them."""
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train(CORPUS, 620).save(folder / "tokenizer.json")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    ours = Tokenizer.from_vocab_and_merges(folder / "vocab.json", folder / "merges.txt")
    return ours, transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


@pytest.mark.parametrize("context_length", [8, 77])
def test_tokenizer_equals_theirs_on_odd_strings(tokenizers: tuple[Tokenizer, object], context_length: int) -> None:
    ours, theirs = tokenizers
    assert len(set(ODD)) == len(ODD) >= 60
    batch = ours.encode(ODD, context_length)
    for row, text in enumerate(ODD):
        expected = theirs(text, truncation=True, max_length=context_length)["input_ids"]
        padded = expected + [0] * (context_length - len(expected))
        assert batch.ids[row].tolist() == padded, text


def test_both_ways_of_loading_agree(tokenizers: tuple[Tokenizer, object], tmp_path: Path) -> None:
    ours, _ = tokenizers
    ours.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert torch.equal(loaded.encode(ODD, 77).ids, ours.encode(ODD, 77).ids)


def test_their_library_reads_our_tokenizer_file(tokenizers: tuple[Tokenizer, object], tmp_path: Path) -> None:
    ours, _ = tokenizers
    ours.save(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ids = ours.encode(["zebra, it's 12"], 77)
    assert theirs("zebra, it's 12")["input_ids"] == ids.ids[ids.mask].tolist()
