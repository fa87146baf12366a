"""The series trains every stage and joins them to a model that draws."""

from pathlib import Path

import pytest
import torch

from unclip import UnClip
from unclip.errors import InputError
from unclip.recipes import RECIPES, SERIES, get_recipe, train_series


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("series")
    train_series("emoji", out, smoke=True)
    return out


def test_a_smoke_series_ends_with_a_model_that_draws(trained: Path) -> None:
    pipe = UnClip.load(trained / "model")
    for size in (256, 1024):
        result = pipe.text_to_image(["a zebra"], seed=1, num_steps=2, image_size=size)
        assert result.images[0].size == (size, size)
    assert (trained / "model" / "config.json").exists()
    probed = pipe.probe(result.images[0], [1, 32], seed=1, num_steps=2, image_size=128)
    torch.testing.assert_close(probed.image_embeddings[1], pipe.clip.encode_pictures(result.images)[0])


def test_clip_is_left_alone_once_other_stages_hang_on_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "clip" / "clip.safetensors").read_bytes()
    train_series("emoji", trained, smoke=True)
    assert "left as it is" in capsys.readouterr().err
    assert (trained / "clip" / "clip.safetensors").read_bytes() == before


def test_the_shares_of_the_time_add_up_and_name_recipes() -> None:
    for series in SERIES.values():
        assert sum(series.shares.values()) == pytest.approx(1.0)
        assert set(series.shares) <= set(RECIPES)


def test_an_unknown_recipe_or_series_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'emoji/decoder'"):
        get_recipe("emoji/decodr")
    with pytest.raises(InputError, match="did you mean 'emoji'"):
        train_series("emojy", Path("nowhere"))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_and_its_smoke_variant_are_of_one_stage(name: str) -> None:
    full, smoke = get_recipe(name), get_recipe(name, smoke=True)
    assert full.name == smoke.name == name
    assert full.task.kind == smoke.task.kind
    assert smoke.num_images < full.num_images
