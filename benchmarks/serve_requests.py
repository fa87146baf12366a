"""Requests for a server of the shipped model, and what the library draws for each; used by `serve.py`."""

import base64
import io
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image

if TYPE_CHECKING:
    from unclip.pipelines import UnClip

PICTURE, MASK = "docs/images/inpainting-face.png", "docs/images/inpainting-mask.png"
PROMPTS = (
    "a red apple", "a fox", "a rocket", "a blue heart, noto style", "a cat with sunglasses", "full moon", "a pizza",
    "flag of japan", "a green tree in the snow", "a dog", "a crying face", "a bicycle",
)  # fmt: skip
SAME_LENGTH = ("a fox", "a dog", "a cat", "a pizza", "a rocket", "a tree", "a heart", "a house")
"""Texts of one number of tokens."""
MAX_ATTEMPTS = 200


@dataclass(frozen=True)
class Spec:
    """One request: where it goes, what it says, and the call of the library that draws the same."""

    route: str
    """The path below /v1/."""
    body: Mapping[str, Any]
    task: str
    options: Mapping[str, Any]
    size: tuple[int, int] | None = None
    """What pictures are scaled to."""
    form: str = "png"
    is_form: bool = False
    """Whether it is sent as a form, with the picture and the mask as files."""

    @property
    def is_task(self) -> bool:
        """Whether it is answered at once and followed by events."""
        return self.route.startswith("tasks/")


@dataclass
class Answer:
    """What became of a request."""

    status: int = 0
    pictures: list[bytes] = field(default_factory=list)
    seconds: float = 0.0
    """From the first time that it was asked to the last byte of its pictures."""
    num_refusals: int = 0
    """Answers 429 before it was accepted."""
    num_without_hint: int = 0
    """Of these, those without Retry-After."""


def mixed_specs(count: int, seed: int) -> list[Spec]:
    """Make `count` different requests of every kind, in the proportions of their list here."""
    numbers = random.Random(seed)
    kinds = (generation, generation, generation, generation, edit, variation, interpolation, mix)
    return [kinds[place % len(kinds)](numbers, 100 * place) for place in range(count)]


def generation(numbers: random.Random, seed: int) -> Spec:
    """A request to the images API for pictures of a prompt."""
    prompt, count = numbers.choice(PROMPTS), numbers.choice((1, 1, 1, 2))
    size, drawn = numbers.choice([((128, 128), 128), ((256, 256), 256), ((200, 200), 256), ((256, 128), (256, 128))])
    form, quality = numbers.choice(("png", "png", "webp", "jpeg")), numbers.choice(("low", "low", "auto"))
    body = {"prompt": prompt, "n": count, "size": "x".join(map(str, size)), "quality": quality, "seed": seed}
    if numbers.random() < 0.5:
        body["response_format"] = "b64_json"
    options = {"prompts": prompt, "num_images": count, "seed": seed, "image_size": drawn}
    options |= {"preset": "fast"} if quality == "low" else {}
    return Spec("images/generations", body | {"output_format": form}, "text_to_image", options, size, form)


def edit(numbers: random.Random, seed: int) -> Spec:
    """A request to paint a masked part of a picture."""
    prompt = f"face with {numbers.choice(('medical mask', 'sunglasses', 'tears'))}"
    body = {"prompt": prompt, "quality": "low", "seed": seed, "response_format": "b64_json"}
    options = {"image": PICTURE, "mask": MASK, "prompt": prompt, "preset": "fast", "seed": seed}
    return Spec("images/edits", body, "inpaint", options, is_form=numbers.random() < 0.5)


def variation(numbers: random.Random, seed: int) -> Spec:
    """A request for variations of a picture."""
    body = {"n": 1, "size": "256x256", "quality": "low", "seed": seed}
    options = {"images": PICTURE, "num_images": 1, "preset": "fast", "seed": seed, "image_size": 256}
    return Spec("images/variations", body, "image_variations", options, (256, 256), is_form=numbers.random() < 0.5)


def interpolation(numbers: random.Random, seed: int) -> Spec:
    """A task that draws a series."""
    first, last = numbers.sample(PROMPTS, 2)
    same = {"frames": 2, "preset": "fast", "image_size": 128, "seed": seed}
    body = {"a": {"text": first}, "b": {"text": last}, **same}
    return Spec("tasks/interpolate", body, "interpolate", {"a": first, "b": last, **same})


def mix(numbers: random.Random, seed: int) -> Spec:
    """A task that joins a text and a picture."""
    text, weight = numbers.choice(PROMPTS), numbers.choice((0.5, 1.0))
    same = {"preset": "fast", "image_size": 128, "seed": seed}
    body = {"parts": [{"text": text, "weight": weight}, {"picture": "PICTURE"}], **same}
    return Spec("tasks/mix", body, "mix", {"parts": [(text, weight), ("PICTURE", 1.0)], **same})


def compatible_specs(prompts: Sequence[str], count: int) -> list[Spec]:
    """Make requests of the same settings, which may share a pass where their texts allow it."""
    same = {"size": "256x256", "quality": "low", "response_format": "b64_json"}
    options = {"preset": "fast", "image_size": 256}
    return [
        Spec(
            "images/generations",
            {"prompt": prompts[seed % len(prompts)], "seed": seed, **same},
            "text_to_image",
            {"prompts": prompts[seed % len(prompts)], "seed": seed, **options},
            (256, 256),
        )
        for seed in range(count)
    ]


def quick_specs(count: int) -> list[Spec]:
    """Make requests of every kind with as few steps as there can be, for runs of very many."""
    specs = []
    for seed, spec in enumerate(mixed_specs(count, seed=2)):
        body = {name: value for name, value in spec.body.items() if name not in ("preset", "n", "quality")}
        steps = {"num_steps": 1} if spec.is_task else {"num_inference_steps": 1}
        size = {} if spec.is_task or spec.task == "inpaint" else {"size": "128x128"}
        specs.append(Spec(spec.route, body | steps | size | {"seed": seed}, spec.task, {}, is_form=spec.is_form))
    return specs


def ask(http: httpx.Client, spec: Spec) -> Answer:
    """Send a request until it is accepted, wait for its pictures, and return them."""
    answer, began = Answer(), time.monotonic()
    for _ in range(MAX_ATTEMPTS):
        response = send(http, spec)
        answer.status = response.status_code
        if answer.status != 429:
            break
        answer.num_refusals += 1
        answer.num_without_hint += "retry-after" not in response.headers
        time.sleep(float(response.headers.get("retry-after", 1)))
    if answer.status == 202:
        kind, record = last_event(http, response.headers["location"])
        answer.status = 200 if kind == "done" else record["error"]["code"]
        answer.pictures = fetch(http, record.get("data", []))
    elif answer.status == 200:
        answer.pictures = fetch(http, response.json()["data"])
    answer.seconds = time.monotonic() - began
    return answer


def send(http: httpx.Client, spec: Spec) -> httpx.Response:
    """Send a request once, with the pictures that it names."""
    path, body = f"/v1/{spec.route}", dict(spec.body)
    if spec.task == "mix":
        body["parts"] = [body["parts"][0], {"picture": encoded(PICTURE)}]
    if spec.task not in ("inpaint", "image_variations"):
        return http.post(path, json=body)
    files = {"image": PICTURE} | ({"mask": MASK} if spec.task == "inpaint" else {})
    if not spec.is_form:
        return http.post(path, json=body | {name: encoded(place) for name, place in files.items()})
    return http.post(path, data=body, files={name: (name, content_of(place)) for name, place in files.items()})


def fetch(http: httpx.Client, data: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Return the bytes of pictures that an answer holds or names."""
    return [base64.b64decode(one["b64_json"]) if "b64_json" in one else http.get(one["url"]).content for one in data]


def events_of(http: httpx.Client, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the kind and the data of each event of a task."""
    kind = ""
    with http.stream("GET", f"{place}/events") as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield kind, json.loads(line.removeprefix("data: "))


def last_event(http: httpx.Client, place: str) -> tuple[str, Any]:
    """Follow a task to its end."""
    *_, last = events_of(http, place)
    return last


def ask_all(url: str, key: str, specs: Sequence[Spec], num_clients: int) -> list[Answer]:
    """Ask from `num_clients` clients at once, each request by the first that is free."""
    with (
        httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=900,
            limits=httpx.Limits(max_connections=2 * num_clients),
        ) as http,
        ThreadPoolExecutor(num_clients) as clients,
    ):
        return list(clients.map(lambda spec: ask(http, spec), specs))


def is_right(pipe: "UnClip", spec: Spec, pictures: Sequence[bytes]) -> bool:
    """Compare the pictures of an answer with those that the library draws, pixel by pixel."""
    from PIL import ImageOps

    from unclip.images import encode_picture
    from unclip.pipelines.options import TASKS

    options = dict(spec.options)
    if spec.task == "mix":
        text, (_, weight) = options["parts"]
        options["parts"] = [text, (Image.open(PICTURE), weight)]
    drawn = TASKS[spec.task].function(pipe, **options).pictures()
    if len(drawn) != len(pictures):
        return False
    for content, expected in zip(pictures, drawn, strict=True):
        if spec.size is not None and expected.size != spec.size:
            expected = ImageOps.fit(expected, spec.size, Image.Resampling.BICUBIC)
        with (
            Image.open(io.BytesIO(content)) as found,
            Image.open(io.BytesIO(encode_picture(expected, f".{spec.form}"))) as kept,
        ):
            if found.format != kept.format or found.mode != kept.mode or found.tobytes() != kept.tobytes():
                return False
    return True


def content_of(place: str) -> bytes:
    """The bytes of a file."""
    with open(place, "rb") as file:
        return file.read()


def encoded(place: str) -> str:
    """A file in base64."""
    return base64.b64encode(content_of(place)).decode()
