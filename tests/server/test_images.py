"""The images API by the real `openai` client: every picture is the one that the library draws of its seed."""

import base64
from typing import Any

import httpx
import openai
import pytest
from PIL import Image, ImageChops

from live_server import opened, png
from unclip.pipelines import UnClip

PHOTO = Image.linear_gradient("L").convert("RGB").resize((40, 40))
HOLE = Image.new("RGBA", (40, 40), (0, 0, 0, 255))
HOLE.paste((0, 0, 0, 0), (10, 10, 30, 30))


def picture_of(data: Any) -> Image.Image:
    return opened(base64.b64decode(data.b64_json))


def same(picture: Image.Image, other: Image.Image) -> bool:
    return picture.mode == other.mode and picture.size == other.size and picture.tobytes() == other.tobytes()


def test_generations_in_base64(client: openai.OpenAI, clear_pipe: UnClip) -> None:
    answer = client.images.generate(
        prompt="a red apple", n=2, size="32x32", response_format="b64_json", extra_body={"seed": 7}
    )
    drawn = clear_pipe.text_to_image("a red apple", num_images=2, seed=7, image_size=32)
    assert answer.data is not None
    assert all(same(picture_of(one), image) for one, image in zip(answer.data, drawn, strict=True))
    assert (answer.size, answer.quality, answer.output_format, answer.background) == ("32x32", "auto", "png", "opaque")
    assert answer.usage is not None
    assert answer.usage.input_tokens == answer.usage.total_tokens > 0


def test_generations_by_address(client: openai.OpenAI, http: httpx.Client, clear_pipe: UnClip) -> None:
    answer = client.images.generate(prompt="a red apple", model="dall-e-2", extra_body={"seed": 3})
    assert answer.data is not None
    assert answer.data[0].url is not None
    content = http.get(answer.data[0].url)
    (drawn,) = clear_pipe.text_to_image("a red apple", seed=3)
    assert content.headers["content-type"] == "image/png"
    assert same(opened(content.content), drawn)
    assert opened(content.content).info["seed"] == "3"


def test_settings_of_a_request_are_those_of_the_library(client: openai.OpenAI, clear_pipe: UnClip) -> None:
    extra = {"seed": 2, "negative_prompt": "a cat", "num_inference_steps": 4, "guidance_scale": 2.5}
    answer = client.images.generate(
        prompt="an old house", size="16x16", background="transparent", model="gpt-image-1", extra_body=extra
    )
    (drawn,) = clear_pipe.text_to_image(
        "an old house",
        seed=2,
        negative_prompt="a cat",
        num_steps={"prior": 4, "decoder": 4},
        guidance_scale=2.5,
        image_size=16,
        background="transparent",
    )
    assert answer.data is not None
    assert answer.background == "transparent"
    assert same(picture_of(answer.data[0]), drawn)


@pytest.mark.parametrize(("quality", "steps"), [("low", 2), ("standard", 3), ("hd", 6)])
def test_quality_sets_the_steps(client: openai.OpenAI, clear_pipe: UnClip, quality: Any, steps: int) -> None:
    answer = client.images.generate(
        prompt="the sun", quality=quality, size="16x16", response_format="b64_json", extra_body={"seed": 1}
    )
    num_steps = {"prior": steps, "decoder": steps}
    (drawn,) = clear_pipe.text_to_image("the sun", seed=1, image_size=16, num_steps=num_steps)
    assert answer.data is not None
    assert same(picture_of(answer.data[0]), drawn)


@pytest.mark.parametrize("size", ["256x256", "20x20", "32x16", "100x70"])
def test_a_picture_has_exactly_the_size(client: openai.OpenAI, size: Any) -> None:
    answer = client.images.generate(prompt="the sun", size=size, response_format="b64_json")
    assert answer.data is not None
    assert "x".join(map(str, picture_of(answer.data[0]).size)) == answer.size == size


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_formats(client: openai.OpenAI, form: Any) -> None:
    sizes = []
    for compression in (95, 5):
        answer = client.images.generate(
            prompt="the sun", model="gpt-image-1", output_format=form, output_compression=compression, size="64x64"
        )
        assert answer.data is not None
        assert picture_of(answer.data[0]).format == form.upper()
        sizes.append(len(answer.data[0].b64_json or ""))
    assert sizes[1] < sizes[0]


# OpenAI withdrew its own; the client still speaks it.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_variations(client: openai.OpenAI, clear_pipe: UnClip) -> None:
    answer = client.images.create_variation(
        image=png(PHOTO), n=2, response_format="b64_json", size="32x32", extra_body={"seed": "5"}
    )
    drawn = clear_pipe.image_variations(PHOTO, num_images=2, seed=5, image_size=32)
    assert all(same(picture_of(one), image) for one, image in zip(answer.data, drawn, strict=True))


@pytest.mark.parametrize("by", ["mask", "alpha"])
def test_edits_paint_what_is_transparent(client: openai.OpenAI, clear_pipe: UnClip, by: str) -> None:
    holed = PHOTO.copy()
    holed.putalpha(HOLE.getchannel("A"))
    files = {"image": png(PHOTO), "mask": png(HOLE)} if by == "mask" else {"image": png(holed)}
    answer = client.images.edit(**files, prompt="a red apple", response_format="b64_json", extra_body={"seed": 4})
    if by == "mask":
        (drawn,) = clear_pipe.inpaint(PHOTO, HOLE, "a red apple", seed=4, mask_kind="alpha")
    else:
        (drawn,) = clear_pipe.inpaint(holed, prompt="a red apple", seed=4)
    assert answer.data is not None
    edited = picture_of(answer.data[0])
    assert same(edited, drawn)
    changed = ImageChops.difference(edited.convert("RGB"), PHOTO).getbbox()
    assert by == "alpha" or changed == (10, 10, 30, 30)


def test_a_mask_is_brought_to_the_size_of_the_picture(client: openai.OpenAI, clear_pipe: UnClip) -> None:
    large = HOLE.resize((80, 80), Image.Resampling.NEAREST)
    answer = client.images.edit(
        image=png(PHOTO), mask=png(large), prompt="a cat", response_format="b64_json", extra_body={"seed": 4}
    )
    (drawn,) = clear_pipe.inpaint(PHOTO, HOLE, "a cat", seed=4, mask_kind="alpha")
    assert answer.data is not None
    assert same(picture_of(answer.data[0]), drawn)


def test_edits_without_a_mask_draw_over_the_picture(http: httpx.Client, clear_pipe: UnClip) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png(PHOTO)).decode()}"
    body = {"prompt": "a cat", "seed": 6, "strength": 0.5, "response_format": "b64_json"}
    for images in ({"image": url}, {"images": [{"image_url": url}]}):
        (data,) = http.post("/v1/images/edits", json=body | images).json()["data"]
        (drawn,) = clear_pipe.image_to_image(PHOTO, "a cat", seed=6, strength=0.5)
        assert same(opened(base64.b64decode(data["b64_json"])), drawn)


def test_several_pictures_are_mixed_with_the_prompt(client: openai.OpenAI, clear_pipe: UnClip) -> None:
    other = PHOTO.rotate(90)
    answer = client.images.edit(
        image=[png(PHOTO), png(other)], prompt="a cat", response_format="b64_json", extra_body={"seed": 6}
    )
    (drawn,) = clear_pipe.mix([("a cat", 1.0), (PHOTO, 1.0), (other, 1.0)], seed=6)
    assert answer.data is not None
    assert same(picture_of(answer.data[0]), drawn)


def test_a_prompt_that_names_a_file_is_a_text(client: openai.OpenAI, clear_pipe: UnClip) -> None:
    answer = client.images.edit(
        image=[png(PHOTO), png(PHOTO)], prompt=__file__, response_format="b64_json", extra_body={"seed": 6}
    )
    assert answer.data is not None
    assert answer.data[0].b64_json


def test_models(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"tiny", "dall-e-2", "dall-e-3", "gpt-image-1"}
    assert client.models.retrieve("dall-e-2").owned_by == "unclip"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("dall-e-9")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize("count", [0, 3])
def test_a_stream_brings_previews_and_then_the_pictures(client: openai.OpenAI, clear_pipe: UnClip, count: int) -> None:
    stream = client.images.generate(
        prompt="a red apple",
        stream=True,
        partial_images=count,
        size="32x32",
        model="gpt-image-1",
        n=2,
        extra_body={"seed": 7, "num_inference_steps": 8},
    )
    events = list(stream)
    kinds = [event.type.removeprefix("image_generation.") for event in events]
    assert kinds == ["partial_image"] * 2 * count + ["completed"] * 2
    steps = {"prior": 8, "decoder": 8}
    drawn = clear_pipe.text_to_image("a red apple", num_images=2, seed=7, image_size=32, num_steps=steps)
    assert all(same(picture_of(one), image) for one, image in zip(events[2 * count :], drawn, strict=True))
    for event in events[: 2 * count]:
        assert picture_of(event).size == (32, 32)


def test_a_stream_of_an_edit(client: openai.OpenAI, clear_pipe: UnClip) -> None:
    stream = client.images.edit(
        image=png(PHOTO), prompt="a cat", stream=True, partial_images=1, model="gpt-image-1", extra_body={"seed": 1}
    )
    events = list(stream)
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    (drawn,) = clear_pipe.image_to_image(PHOTO, "a cat", seed=1)
    assert same(picture_of(events[-1]), drawn)


def test_a_gif_is_one_animation_of_all_pictures(http: httpx.Client, clear_pipe: UnClip) -> None:
    body = {"prompt": "a red apple", "n": 3, "seed": 7, "output_format": "gif"}
    answer = http.post("/v1/images/generations", json=body).json()
    assert len(answer["data"]) == 1
    content = http.get(answer["data"][0]["url"])
    assert content.headers["content-type"] == "image/gif"
    animation, drawn = opened(content.content), clear_pipe.text_to_image("a red apple", num_images=3, seed=7)
    assert (getattr(animation, "n_frames", 1), animation.size) == (3, drawn[0].size)
    refusal = http.post("/v1/images/generations", json=body | {"background": "transparent"}).json()["error"]
    assert refusal["message"].startswith("background='transparent' has no place in a GIF")
    refusal = http.post("/v1/images/generations", json=body | {"stream": True}).json()["error"]
    assert refusal["param"] == "output_format"
