"""The studio in a real browser: what it draws is the library's, and it is usable by keyboard and on a phone."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from live_server import opened, png, serving
from unclip.pipelines import UnClip

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
KEY, OTHER_KEY = "a-key", "another-key"
WIDTHS = ((390, "light"), (820, "dark"), (1400, "light"), (390, "dark"))
SECONDS = 120_000.0

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="needs Chromium: make system-deps"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as one:
        yield one


@pytest.fixture(scope="module")
def clear_folder(clear_pipe: UnClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    clear_pipe.save(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(clear_folder: Path) -> UnClip:
    """The model as the server has it: weights in memory may have another layout, and round otherwise."""
    return UnClip.load(clear_folder)


@pytest.fixture(scope="module")
def studio(clear_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(clear_folder, tmp_path_factory.mktemp("studio")) as (url, _):
        yield url


@pytest.fixture
def page(browser: Browser, studio: str) -> Iterator[Page]:
    """A visitor's page; nothing of it may come from elsewhere."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        one, outside = context.new_page(), []
        one.on("request", lambda request: outside.append(request.url) if is_outside(request.url, studio) else None)
        open_studio(one, studio)
        yield one
        assert outside == []


def is_outside(url: str, studio: str) -> bool:
    return not url.startswith((studio, "data:", "blob:"))


def open_studio(page: Page, address: str) -> None:
    page.goto(address, timeout=SECONDS)
    expect(page.locator("#draw-text_to_image")).to_be_visible(timeout=SECONDS)


def draw(page: Page, task: str = "text_to_image") -> None:
    """Press the button of a task, and wait for its end."""
    page.evaluate("document.querySelector('#status').dataset.old = '1'")
    page.locator(f"#draw-{task}").click()
    expect(page.locator("#stop button, button#stop").first).to_be_enabled(timeout=SECONDS)
    expect(page.locator("#stop button, button#stop").first).to_be_disabled(timeout=SECONDS)


def draw_prompt(page: Page, prompt: str = "a red apple", count: int = 1) -> None:
    page.get_by_label("Prompt").first.fill(prompt)
    page.get_by_label("number input for Pictures").first.fill(str(count))
    draw(page)


def shown(page: Page) -> Image.Image:
    """The picture on the easel, as the file that a download gives; it follows the command after a moment."""
    for _ in range(100):
        address = page.locator("#picture img").get_attribute("src")
        assert address is not None
        picture = opened(page.request.get(address).body())
        if picture.info.get("seed") == str(seed_of(page)):
            break
        page.wait_for_timeout(100)
    return picture


def check_equal(one: Image.Image, other: Image.Image) -> None:
    """Check that two pictures are the same to the bit; a report of their bytes would help nobody."""
    assert (one.mode, one.size) == (other.mode, other.size)
    differs = np.abs(np.asarray(one, dtype=int) - np.asarray(other))
    assert differs.max() == 0, f"{(differs > 0).mean():.0%} of the values differ, by {differs.max()} at most"


def command(page: Page) -> list[str]:
    return shlex.split(page.locator("#command .cm-content").inner_text())


def seed_of(page: Page) -> int:
    words = command(page)
    return int(words[words.index("--seed") + 1])


def test_it_draws_what_the_library_draws_and_says_how(page: Page, loaded: UnClip) -> None:
    draw_prompt(page, count=3)
    expect(page.locator("#status")).to_have_text("3 pictures.")
    first = seed_of(page)
    assert command(page)[:3] == ["unclip", "generate", "a red apple"]
    pictures = loaded.text_to_image("a red apple", num_images=3, seed=first).images
    check_equal(shown(page), pictures[0])
    page.locator("#strip button").nth(2).click()
    expect(page.locator("#command .cm-content")).to_contain_text(str(first + 2))
    check_equal(shown(page), pictures[2])
    program = page.locator("#python .cm-content").inner_text()
    assert f"pipe.text_to_image(prompts='a red apple', seed={first + 2})" in " ".join(program.split())


def test_history_stays_after_reload_and_belongs_to_its_visitor(page: Page, browser: Browser, studio: str) -> None:
    draw_prompt(page, "a blue heart")
    seed = seed_of(page)
    page.reload()
    expect(page.locator("#history button").first).to_be_visible(timeout=SECONDS)
    page.locator("#history button").first.click()
    expect(page.locator("#command .cm-content")).to_contain_text(str(seed), timeout=SECONDS)
    assert command(page)[2] == "a blue heart"
    with browser.new_context() as context:
        other = context.new_page()
        open_studio(other, studio)
        expect(other.locator("#history button")).to_have_count(0)


def test_a_picture_is_varied_and_enlarged(page: Page, loaded: UnClip) -> None:
    draw_prompt(page)
    picture = shown(page)
    page.locator("#to-image_variations").click()
    expect(page.locator("#command .cm-content")).to_contain_text("variations", timeout=SECONDS)
    drawn = loaded.image_variations(picture, seed=seed_of(page)).images[0]
    check_equal(shown(page), drawn)
    page.locator("#to-upscale").click()
    draw(page, "upscale")
    check_equal(shown(page), loaded.upscale(drawn, seed=seed_of(page)).images[0])


def test_the_dial_goes_from_one_text_to_another(page: Page, loaded: UnClip) -> None:
    page.get_by_role("tab", name="Between").click()
    page.get_by_role("textbox", name="From Where").fill("a red apple")
    page.get_by_role("textbox", name="To Where").fill("a yellow sun")
    draw(page, "interpolate")
    frames = loaded.interpolate("a red apple", "a yellow sun", frames=7, seed=seed_of(page)).images
    check_equal(shown(page), frames[0])
    dial = page.get_by_role("slider", name="From first to last")
    dial.focus()
    before = page.locator("#picture img").get_attribute("src")
    dial.press("End")
    expect(page.locator("#picture img")).not_to_have_attribute("src", before or "", timeout=SECONDS)
    check_equal(shown(page), frames[-1])


def upload(page: Page, task: str, side: int) -> Image.Image:
    """Give a picture to the tab of a task."""
    panel = page.get_by_role("tabpanel").filter(has=page.locator(f"#draw-{task}"))
    sent = Image.effect_noise((side, side), 60).convert("RGB")
    file: Any = {"name": "noise.png", "mimeType": "image/png", "buffer": png(sent)}
    panel.locator("input[type=file]").first.set_input_files([file])
    expect(panel.locator("img").first).to_be_visible(timeout=SECONDS)
    return sent


def test_what_is_brushed_is_painted_and_all_else_stays(page: Page) -> None:
    page.get_by_role("tab", name="Paint").click()
    sent = np.asarray(upload(page, "inpaint", 128))
    canvas = page.locator("#mask canvas").first
    expect(canvas).to_be_visible(timeout=SECONDS)
    page.wait_for_timeout(2000)  # the editor lays its picture out, and tells nobody when it has
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y + 20, steps=5)
    page.mouse.up()
    draw(page, "inpaint")
    painted = np.asarray(shown(page).convert("RGB"))
    assert painted.shape == sent.shape
    changed = (painted != sent).any(axis=-1)
    assert changed[64:80, 64:80].mean() > 0.9
    assert not changed[:32].any(), "the upper part was not brushed"


def test_a_picture_goes_on_beyond_its_border(page: Page, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Extend").click()
    sent = upload(page, "outpaint", 32)
    panel = page.get_by_role("tabpanel").filter(has=page.locator("#draw-outpaint"))
    panel.get_by_label("number input for Left").fill("16")
    panel.get_by_label("number input for Left").press("Tab")
    draw(page, "outpaint")
    assert shown(page).size == (48, 32)
    check_equal(shown(page).convert("RGB").crop((16, 0, 48, 32)), sent)


def test_errors_are_one_sentence(page: Page) -> None:
    page.locator("#draw-text_to_image").click()
    alert = page.get_by_role("alert").first
    expect(alert).to_have_text("Prompt is empty; write something there.", timeout=SECONDS)
    page.get_by_label("Prompt").first.fill("a red apple")
    page.get_by_role("textbox", name=re.compile("^Seed")).first.fill("seven")
    page.locator("#draw-text_to_image").click()
    expect(alert).to_have_text("Seed 'seven' is no whole number; write one, or nothing for the usual.", timeout=SECONDS)


def test_the_keyboard_is_enough(page: Page, loaded: UnClip) -> None:
    page.get_by_label("Prompt").first.focus()
    page.keyboard.type("a yellow sun")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("One picture.", timeout=SECONDS)
    check_equal(shown(page), loaded.text_to_image("a yellow sun", seed=seed_of(page)).images[0])
    page.locator("#to-image_variations").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#command .cm-content")).to_contain_text("variations", timeout=SECONDS)


def test_stop_ends_what_is_drawn(page: Page) -> None:
    page.get_by_label("number input for Pictures").first.fill("16")
    page.get_by_label("Prompt").first.fill("a red apple")
    page.get_by_text("More settings").first.click()
    page.get_by_role("textbox", name="Steps: decoder").first.fill("1000")
    page.locator("#draw-text_to_image").click()
    expect(page.locator("#status progress")).to_be_visible(timeout=SECONDS)
    page.locator("#stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.", timeout=SECONDS)
    page.get_by_role("textbox", name="Steps: decoder").first.fill("")
    draw_prompt(page, count=1)
    expect(page.locator("#status")).to_have_text("One picture.", timeout=SECONDS)


@pytest.mark.parametrize(("width", "scheme"), WIDTHS)
def test_nothing_sticks_out_at_any_width(browser: Browser, studio: str, width: int, scheme: Any) -> None:
    with browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme) as context:
        page = context.new_page()
        open_studio(page, studio)
        if scheme == "light":
            draw_prompt(page, count=2)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("Between", "Paint", "Extend", "Mix"):
            page.get_by_role("tab", name=name).click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")


def test_a_studio_with_keys_asks_for_one(clear_folder: Path, browser: Browser, tmp_path: Path) -> None:
    with serving(clear_folder, tmp_path, keys=(KEY, OTHER_KEY)) as (url, _):
        answer = httpx.get(url)
        assert answer.status_code == 401
        assert "Basic" in answer.headers["www-authenticate"]
        assert httpx.get(url, auth=("me", "wrong")).status_code == 401
        with browser.new_context(http_credentials={"username": "me", "password": KEY}) as context:
            page = context.new_page()
            open_studio(page, url)
            draw_prompt(page)
            expect(page.locator("#history button")).to_have_count(1, timeout=SECONDS)
        with browser.new_context(http_credentials={"username": "me", "password": OTHER_KEY}) as context:
            page = context.new_page()
            open_studio(page, url)
            expect(page.locator("#history button")).to_have_count(0)


def test_pages_of_other_sites_may_not_draw(studio: str) -> None:
    answer = httpx.post(f"{studio}/v1/images/generations", headers={"Sec-Fetch-Site": "cross-site"}, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
    answer = httpx.post(f"{studio}/v1/images/generations", headers={"Origin": "http://other.example"}, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
    assert httpx.post(f"{studio}/v1/images/generations", headers={"Origin": studio}, json={}).status_code == 400


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_files_of_the_machine_are_no_pictures(studio: str, tmp_path: Path, suffix: str) -> None:
    secret = tmp_path / f"secret{suffix}"
    secret.write_bytes(png(Image.new("RGB", (8, 8), "red")))
    with httpx.Client(base_url=studio, timeout=60) as http:
        config = http.get("/config").json()
        kinds = {one["id"]: one["type"] for one in config["components"]}
        echoes = [one["id"] for one in config["dependencies"] if [kinds[name] for name in one["inputs"]] == ["image"]]
        assert echoes, "no event of the page takes one picture"
        file = {"path": str(secret), "orig_name": "x.svg", "meta": {"_type": "gradio.FileData"}}
        for number in echoes:
            body = {"data": [file], "fn_index": number, "session_hash": f"s{number}"}
            assert http.post("/gradio_api/queue/join", json=body).status_code == 200
            with http.stream("GET", f"/gradio_api/queue/data?session_hash=s{number}") as events:
                ends = [line for line in events.iter_lines() if "process_completed" in line]
            assert '"success":false' in ends[-1].replace(" ", "")
        assert http.get(f"/gradio_api/file={secret}").status_code == 403


def test_addresses_are_not_fetched(studio: str) -> None:
    for place in ("file=http://127.0.0.1:9/x.png", "file=HTTPS://localhost/x", "proxy=http://localhost/x"):
        assert httpx.get(f"{studio}/gradio_api/{place}").text == "Addresses are not fetched."
