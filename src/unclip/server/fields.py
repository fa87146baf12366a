"""The fields of the images API, what each asks of a task, and what is refused by name."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from unclip.config import Config
from unclip.pipelines import Model
from unclip.pipelines.options import describe
from unclip.pipelines.settings import check_prompts, image_seeds
from unclip.server.config import ServerConfig
from unclip.server.errors import refused
from unclip.server.limits import check_cost, usual_size
from unclip.server.pictures import drawn_size, parse_size

HELP = {option.name: option.help for task in ("image_to_image", "text_to_image") for option in describe(task)}
Quality = Literal["auto", "standard", "medium", "low", "hd", "high"]
STEP_FACTORS = {"low": 0.5, "hd": 2.0, "high": 2.0}
"""Steps of prior and decoder against the model's own, by quality; other words stand for 1."""
FAST = "fast"
"""The preset of a model that `low` takes, if it has one."""
MAX_STEPS = 250
MAX_SEED = 2**63 - 1


class ImageFields(Config):
    """What every request for pictures may say."""

    # Programs send fields of other servers: they are ignored, and a header names them.
    model_config = ConfigDict(extra="allow")

    model: str | None = None
    """The model's name, or an alias of it."""
    n: int = Field(1, ge=1, le=10, description=HELP["num_images"])
    size: str | None = None
    """auto, or WIDTHxHEIGHT."""
    quality: Quality = "auto"
    """low takes half of the model's steps (or its preset "fast"), hd and high twice as many; others are the model's."""
    response_format: Literal["url", "b64_json"] | None = None
    """How pictures are returned; url unless the model is called gpt-image-1."""
    style: str | None = None
    """Refused: the model has no styles but those that a prompt names."""
    user: str | None = None
    """Taken, and not used."""
    safety_identifier: str | None = None
    """Taken, and not used."""
    moderation: Literal["auto", "low"] = "auto"
    """Taken: the server's policy is the same for both."""
    background: Literal["auto", "opaque", "transparent"] = "auto"
    """transparent needs a model with alpha, and PNG or WebP."""
    output_format: Literal["png", "jpeg", "webp", "gif"] = "png"
    """gif makes one animation of all `n` pictures."""
    output_compression: int | None = Field(None, ge=0, le=100)
    """The quality of JPEG and WebP."""
    stream: bool = False
    """Server-sent events instead of one answer."""
    partial_images: int = Field(0, ge=0, le=3)
    """Previews of each picture, in a stream."""
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description=HELP["seed"])
    num_inference_steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    """Steps of the decoder; of the prior as many."""
    guidance_scale: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    """Guidance of prior and decoder; 1 is off."""


class GenerationFields(ImageFields):
    """A request for pictures of a prompt."""

    prompt: str = Field(min_length=1, max_length=32_000, description=HELP["prompts"])
    negative_prompt: str = Field("", max_length=32_000, description=HELP["negative_prompt"])


class EditFields(GenerationFields):
    """A request to draw in a picture, or over it."""

    image: Any = None
    """A picture in base64 or as a data URL, or up to 16 of them; in a form, files `image` or `image[]`."""
    images: Any = None
    """The same, as a list of {"image_url": data URL}."""
    mask: Any = None
    """A picture whose transparent part is drawn anew."""
    input_fidelity: Literal["high", "low"] = "low"
    """high is refused: what is outside the mask stays as it is anyway."""
    strength: float | None = Field(None, gt=0, le=1, description=HELP["strength"])


class VariationFields(ImageFields):
    """A request for variations of a picture."""

    image: Any = None
    """A picture in base64 or as a data URL; in a form, the file `image`."""


def check_fields(fields: ImageFields, model: Model) -> None:
    """Raise `ApiError` for what a field asks and the model or the server lacks."""
    if fields.style is not None:
        raise refused("style", fields.style, "sets nothing in this model; write the look into the prompt.")
    if fields.background == "transparent":
        if model.channels != 4:
            raise refused("background", "transparent", f"needs a model with alpha, and {model.name!r} has none.")
        if fields.output_format in ("jpeg", "gif"):
            form = fields.output_format.upper()
            raise refused("background", "transparent", f"has no place in a {form}; ask for output_format png or webp.")
    if fields.output_compression not in (None, 100) and fields.output_format in ("png", "gif"):
        raise refused("output_compression", fields.output_compression, "is of JPEG and WebP alone; leave it out.")
    if fields.stream and fields.output_format == "gif":
        raise refused("output_format", "gif", "is not streamed; ask for png, or leave stream out.")
    if fields.partial_images and not fields.stream:
        raise refused("partial_images", fields.partial_images, "needs stream=true.")
    if fields.stream and fields.response_format == "url":
        raise refused("response_format", "url", "is not streamed; events bring b64_json, leave it out.")
    if isinstance(fields, EditFields) and fields.input_fidelity == "high":
        raise refused("input_fidelity", "high", "is not known here; give a mask, outside which every pixel stays.")
    if isinstance(fields, GenerationFields):
        check_prompts(fields.prompt)


def draw_options(
    fields: ImageFields, model: Model, config: ServerConfig, *, uses_prior: bool
) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """Return the options of a task that these fields ask for, and the exact size of its pictures (None: its own)."""
    size = parse_size(fields.size, config.max_pixels)
    options: dict[str, Any] = {"num_images": fields.n, "seed": image_seeds(fields.seed, fields.n)}
    if (image_size := drawn_size(model, size) if size else usual_size(model, config.max_pixels)) is not None:
        options["image_size"] = image_size
    stages = [name for name in ("prior", "decoder") if name in model.stages and (uses_prior or name == "decoder")]
    factor = STEP_FACTORS.get(fields.quality, 1.0)
    if fields.num_inference_steps is not None:
        options["num_steps"] = dict.fromkeys(stages, fields.num_inference_steps)
    elif factor < 1.0 and FAST in model.presets:
        options["preset"] = FAST
    elif factor != 1.0:
        options["num_steps"] = {name: _scaled_steps(model, name, factor) for name in stages}
    if fields.guidance_scale is not None:
        options["guidance_scale"] = dict.fromkeys(stages, fields.guidance_scale)
    if fields.background != "auto" and model.channels == 4:
        options["background"] = "transparent" if fields.background == "transparent" else "white"
    check_cost(options, config, "num_inference_steps")
    return options, size


def _scaled_steps(model: Model, name: str, factor: float) -> int:
    stage = model.stages[name]
    return min(max(round(stage.defaults.num_steps * factor), 1), stage.network.config.num_timesteps)
