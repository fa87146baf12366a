"""Probing: principal components against the closed form, all of them as none, and the file of a model's own."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.checkpoint import save_tensors
from unclip.errors import CheckpointError, InputError
from unclip.model import EmbeddingBasis, convert
from unclip.model.basis import BASIS_FILE
from unclip.pipelines import Model, UnClip


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))


@pytest.fixture
def basis(generator: torch.Generator) -> EmbeddingBasis:
    """Of the size of the tiny model's embeddings."""
    return EmbeddingBasis.fit(torch.randn(100, 16, generator=generator))


def probed(
    pipe: UnClip, picture: Image.Image, counts: list[int], basis: EmbeddingBasis, **options: Any
) -> torch.Tensor:
    settings = {"seed": 7, "output_type": "pt", "image_size": 16, **options}
    result = pipe.probe(picture, counts, basis=basis, **settings)
    return torch.stack(result.images)


def test_directions_of_known_spread_are_found_in_order(generator: torch.Generator) -> None:
    """Points on the axes of a rotated box: mean, axes and their order are known exactly."""
    axes, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    lengths = torch.tensor([3.0, 9.0, 1.0, 5.0, 2.0], dtype=torch.float64)
    mean = torch.arange(5, dtype=torch.float64)
    basis = EmbeddingBasis.fit(torch.cat([mean + lengths[:, None] * axes, mean - lengths[:, None] * axes]).float())
    torch.testing.assert_close(basis.mean, mean.float(), atol=1e-6, rtol=0)
    along = (basis.components.double() @ axes.T).abs()
    torch.testing.assert_close(along, torch.eye(5, dtype=torch.float64)[[1, 3, 0, 4, 2]], atol=1e-5, rtol=0)
    assert (basis.components.gather(1, basis.components.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_what_is_left_is_the_nearest_in_the_leading_directions(generator: torch.Generator) -> None:
    embeddings = torch.randn(50, 8, generator=generator) * torch.arange(1.0, 9.0)
    basis = EmbeddingBasis.fit(embeddings)
    errors = [float((basis.keep(embeddings, count) - embeddings).square().sum()) for count in range(1, 9)]
    # Eckart and Young: what is lost is the sum of the squares of the other singular values.
    values = torch.linalg.svdvals((embeddings - embeddings.mean(dim=0)).double()).square()
    for count, error in enumerate(errors[:-1], start=1):
        assert error == pytest.approx(float(values[count:].sum()), rel=1e-4)
    torch.testing.assert_close(basis.keep(embeddings, 8), embeddings, atol=1e-5, rtol=1e-5)


def test_few_embeddings_give_a_whole_basis_too(generator: torch.Generator) -> None:
    few = torch.randn(3, 8, generator=generator)
    basis = EmbeddingBasis.fit(few)
    torch.testing.assert_close(basis.components @ basis.components.T, torch.eye(8), atol=1e-6, rtol=0)
    torch.testing.assert_close(basis.keep(few, 2), few, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="2 embeddings or more; found 1"):
        EmbeddingBasis.fit(few[:1])


def test_all_components_are_the_variation_and_the_noise_is_the_same_for_all(
    pipe: UnClip, picture: Image.Image, basis: EmbeddingBasis
) -> None:
    strip = probed(pipe, picture, [1, 16, 1], basis)
    whole = pipe.image_variations(picture, seed=7, output_type="pt", image_size=16).images[0]
    torch.testing.assert_close(strip[1], whole, atol=1e-3, rtol=1e-3)
    assert torch.equal(strip[0], strip[2])
    assert not torch.allclose(strip[0], strip[1], atol=0.05)
    assert torch.equal(strip[:1], probed(pipe, picture, [1], basis))
    torch.testing.assert_close(probed(pipe, picture, [1, 16, 1], basis, batch_size=2), strip, atol=1e-3, rtol=1e-3)


def test_by_default_components_double_until_all(pipe: UnClip, picture: Image.Image, basis: EmbeddingBasis) -> None:
    result = pipe.probe(picture, basis=basis, seed=7, image_size=16)
    assert result.settings["num_components"] == [1, 2, 4, 8, 16]
    assert result.seeds == [7] * 5
    z = pipe.image_variations(picture, seed=7, image_size=16).image_embeddings
    lost = (result.image_embeddings - z).norm(dim=1)
    assert (lost.diff() < 0).all()
    assert float(lost[-1]) == pytest.approx(0.0, abs=1e-5)


def test_a_basis_of_pictures_is_that_of_their_embeddings(pipe: UnClip, picture: Image.Image, tmp_path: Path) -> None:
    pictures = [picture.rotate(angle) for angle in range(0, 360, 60)]
    pictures[1].save(tmp_path / "1.png")
    found = pipe.fit_basis(tmp_path / "1.png" if place == 1 else one for place, one in enumerate(pictures))
    expected = EmbeddingBasis.fit(torch.cat([pipe.clip.encode_pictures([one]) for one in pictures]))
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.components[:3], expected.components[:3])
    with pytest.raises(InputError, match="2 embeddings or more; found 0"):
        pipe.fit_basis([])


def test_a_model_keeps_its_basis(model: Model, picture: Image.Image, basis: EmbeddingBasis, tmp_path: Path) -> None:
    replace(model, basis=basis).save(tmp_path / "a", "int8")
    loaded = UnClip.load(tmp_path / "a", "cpu", torch.float32, low_memory=True)
    loaded.save(tmp_path / "b")
    convert(tmp_path / "b", tmp_path / "c", storage="bfloat16")
    assert (tmp_path / "c" / BASIS_FILE).read_bytes() == (tmp_path / "a" / BASIS_FILE).read_bytes()
    kept = UnClip.load(tmp_path / "c", "cpu", torch.float32)
    assert kept.basis is not None
    assert torch.equal(kept.basis.components, basis.components)
    assert len(kept.probe(picture, [3], seed=7, image_size=16).images) == 1
    model.save(tmp_path / "c")
    assert not (tmp_path / "c" / BASIS_FILE).exists()


def test_another_layout_has_no_place_for_it(tiny_folder: Path, tmp_path: Path, basis: EmbeddingBasis) -> None:
    source = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    basis.save(source / BASIS_FILE)
    assert convert(source, tmp_path / "unclip").dropped == {}
    assert (tmp_path / "unclip" / BASIS_FILE).read_bytes() == (source / BASIS_FILE).read_bytes()


def test_a_damaged_basis_is_named(
    tiny_folder: Path, tmp_path: Path, basis: EmbeddingBasis, generator: torch.Generator
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    path = folder / BASIS_FILE
    kind = {"kind": "embedding_basis"}
    basis.save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"embedding_basis\.safetensors is not a whole safetensors file"):
        UnClip.load(folder)
    shutil.copy(folder / "prior.safetensors", path)
    with pytest.raises(CheckpointError, match="holds 'prior', not 'embedding_basis'"):
        UnClip.load(folder)
    save_tensors(path, {"mean": basis.mean[:8], "components": basis.components}, kind)
    with pytest.raises(CheckpointError, match=r"damaged: a mean \(8,\), components \(16, 16\)"):
        UnClip.load(folder)
    save_tensors(path, {"mean": basis.mean, "components": basis.components * 1.01}, kind)
    with pytest.raises(CheckpointError, match="components are not orthonormal"):
        UnClip.load(folder)
    EmbeddingBasis.fit(torch.randn(9, 4, generator=generator)).save(path)
    with pytest.raises(CheckpointError, match=r"disagree on the image embedding: clip 16, .*embedding basis 4"):
        UnClip.load(folder)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([0], "0 components cannot be kept; give whole numbers from 1 to 16"),
        ([1, 17], "17 components cannot be kept; give whole numbers from 1 to 16"),
        ([], "num_components is empty"),
    ],
)
def test_impossible_numbers_are_refused(
    pipe: UnClip, picture: Image.Image, basis: EmbeddingBasis, counts: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pipe.probe(picture, counts, basis=basis)


def test_without_a_basis_of_the_right_size_nothing_is_probed(
    pipe: UnClip, picture: Image.Image, generator: torch.Generator
) -> None:
    with pytest.raises(InputError, match="the model 'tiny' has no basis of its image embeddings"):
        pipe.probe(picture)
    with pytest.raises(InputError, match="the basis is of 4 numbers and CLIP's embeddings of 16"):
        pipe.probe(picture, basis=EmbeddingBasis.fit(torch.randn(9, 4, generator=generator)))
