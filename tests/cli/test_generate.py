"""`unclip generate`: the files it writes, what they say about themselves, and every wrong input in one line."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import unclip as package
from unclip.testing import tiny_pipeline

Program = Callable[..., Any]

PROMPT = "a red apple"
LONG = "a red apple and a blue heart and a green tree and an old house near the yellow sun with a cat"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_picture_to_the_named_file_and_nothing_else(generate: Program, tmp_path: Path) -> None:
    done = generate(PROMPT, "--seed", "7", "-o", "out.png")
    assert (done.code, done.out) == (0, "out.png\n")
    assert files(tmp_path) == ["out.png"]
    with Image.open("out.png") as image:
        assert (image.mode, image.size) == ("RGB", (32, 32))


def test_the_same_seed_gives_the_same_bytes(generate: Program, tmp_path: Path) -> None:
    for name, seed in [("a.png", "7"), ("b.png", "7"), ("c.png", "8")]:
        assert generate(PROMPT, "--seed", seed, "-o", name).code == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_picture_k_has_the_same_bytes_whatever_n(generate: Program, tmp_path: Path) -> None:
    assert generate(PROMPT, "-n", "4", "--seed", "7", "-o", "folder/").code == 0
    assert files(tmp_path) == [f"folder/a-red-apple-{seed}.png" for seed in (10, 7, 8, 9)]
    assert generate(PROMPT, "-n", "2", "--seed", "7", "-o", "two.png").code == 0
    assert generate(PROMPT, "--seed", "8", "-o", "one.png").code == 0
    second = (tmp_path / "folder/a-red-apple-8.png").read_bytes()
    assert (tmp_path / "two-2.png").read_bytes() == second
    assert (tmp_path / "one.png").read_bytes() == second


def test_metadata_says_how_to_draw_it_again(generate: Program) -> None:
    assert generate("ein roter Äpfel 🍎", "--seed", "7", "--steps", "decoder=2", "-o", "out.png").code == 0
    with Image.open("out.png") as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert text.keys() == {"prompt", "seed", "model", "version", "settings"}
    assert text["prompt"] == "ein roter Äpfel 🍎"
    assert (text["seed"], text["model"], text["version"]) == ("7", "tiny", package.__version__)
    settings = json.loads(text["settings"])
    assert settings["decoder"]["num_steps"] == 2
    assert settings["image_size"] == 32


def test_json_is_one_line(generate: Program, tmp_path: Path) -> None:
    done = generate(
        PROMPT, "-n", "2", "--seed", "7", "--size", "16", "--guidance", "prior=1,decoder=2.5",
        "--sampler", "ddim", "--steps", "2", "--candidates", "3", "-o", tmp_path / "x.png", "--json",
    )  # fmt: skip
    assert done.code == 0
    assert done.out.count("\n") == 1
    line = json.loads(done.out)
    assert line["images"] == [str(tmp_path / "x-1.png"), str(tmp_path / "x-2.png")]
    assert line["seeds"] == [7, 8]
    assert line["prompt"] == PROMPT
    assert line["settings"]["image_size"] == 16
    assert line["settings"]["num_candidates"] == 3
    assert line["settings"]["prior"]["guidance_scale"] == 1.0
    assert line["settings"]["decoder"]["guidance_scale"] == 2.5
    assert {line["settings"][stage]["num_steps"] for stage in ("prior", "decoder")} == {2}
    assert {line["settings"][stage]["sampler"] for stage in ("prior", "decoder")} == {"ddim"}


def test_without_a_seed_pictures_differ_and_say_their_seed(generate: Program) -> None:
    seeds = [json.loads(generate(PROMPT, "--json").out)["seeds"][0] for _ in range(2)]
    assert seeds[0] != seeds[1]
    assert Path(f"a-red-apple-{seeds[0]}.png").exists()


def test_a_long_prompt_is_drawn_and_the_part_cut_is_named(generate: Program) -> None:
    done = generate(LONG, "--seed", "7", "-o", "out.png", "--json")
    assert done.code == 0
    cut = json.loads(done.out)["cut"]
    assert cut
    assert LONG.endswith(cut)
    notes = [line for line in done.err.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert cut in notes[0]
    assert Path("out.png").exists()


def test_plain_progress_lines_where_there_is_no_terminal(generate: Program) -> None:
    done = generate(PROMPT, "-n", "2", "--batch-size", "1", "-o", "out.png")
    assert done.err.splitlines() == ["prior: 6 steps", "decoder: 6 steps", "upsampler_32: 4 steps"]


def test_the_process_keeps_its_matmul_precision(generate: Program) -> None:
    before = torch.get_float32_matmul_precision()
    assert generate(PROMPT, "-o", "out.png").code == 0
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the prompt is empty"),
        (["  \n"], "the prompt is empty"),
        ([PROMPT, "--guidance", "nan"], "--guidance of prior=nan"),
        ([PROMPT, "--guidance", "-1"], "--guidance of prior=-1.0"),
        ([PROMPT, "--guidance", "decoder=inf"], "--guidance of decoder=inf"),
        ([PROMPT, "--guidance", "strong"], "--guidance: 'strong' is not a number"),
        ([PROMPT, "--steps", "0"], "--steps of prior=0"),
        ([PROMPT, "--steps", "2.5"], "--steps: '2.5' is not a whole number"),
        ([PROMPT, "--steps", "2000"], "--steps=2000 exceeds the 1000 steps"),
        ([PROMPT, "--steps", "=5"], "--steps '=5' cannot be read"),
        ([PROMPT, "--steps", "decodr=5"], "did you mean 'decoder'?"),
        ([PROMPT, "--sampler", "ddmp"], "did you mean 'ddpm'?"),
        (
            [PROMPT, "--size", "64"],
            "--size=64 is not one that the model 'tiny' draws; use one of: 16, 32; or, near 32, another shape",
        ),
        ([PROMPT, "-n", "0"], "--num-images=0"),
        ([PROMPT, "-n", "many"], "'--num-images'"),
        ([PROMPT, "--candidates", "0"], "--candidates=0"),
        ([PROMPT, "--seed", "-1"], "--seed=-1"),
        ([PROMPT, "--model", "nowhere"], "there is no model 'nowhere'"),
        ([PROMPT, "--device", "abacus"], "device 'abacus' cannot be used"),
        ([PROMPT, "-o", "out.tiff"], "pictures are written as PNG, JPEG or WebP; use out.png"),
        ([PROMPT, "-o", "note.txt/out.png"], "cannot write note.txt/out.png"),
        ([PROMPT, "-o", "note.txt/"], "cannot write note.txt/"),
        ([PROMPT, "--colour", "red"], "No such option"),
        ([], "nothing says what to draw"),
        ([], "(see unclip generate --help)"),
        ([PROMPT, "--prompt", PROMPT], "two prompts were given"),
        ([PROMPT, "--steps", "5", "--steps", "decoder=5"], "--steps '5,decoder=5' cannot be read"),
        ([PROMPT, "--format", "gif"], "--format gif is not written"),
        ([PROMPT, "--format", "jpg", "-o", "x.png"], "name different formats"),
        ([PROMPT, "--format", "jpg", "--stop-after", "prior"], "--format jpg is of pictures"),
        ([PROMPT, "--batch-size", "0"], "--batch-size=0"),
        ([PROMPT, "-o", "n" * 300 + ".png"], "File name too long"),
        ([PROMPT, "-o", "n" * 300 + "/"], "File name too long"),
        ([PROMPT, "--model", "n" * 300 + "/x"], "File name too long"),
        ([PROMPT, "-o", "~nosuchuser/x.png"], "there is no home folder ~nosuchuser"),
        ([PROMPT, "-o", "~nosuchuser"], "there is no home folder ~nosuchuser"),
        ([PROMPT, "--model", "~nosuchuser"], "there is no home folder ~nosuchuser"),
        ([PROMPT, "--model=~nosuchuser/x"], "there is no home folder ~nosuchuser"),
        ([PROMPT, "--device", "meta"], "device 'meta' cannot be used"),
        ([PROMPT, "--device", "hpu"], "device 'hpu' cannot be used"),
        (["\udcff pple"], "the prompt has '\\udcff'"),
        ([PROMPT, "--negative", "half \ud83d"], "--negative has '\\ud83d'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    generate: Program, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "note.txt").write_text("kept")
    done = generate(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("unclip: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert files(tmp_path) == ["note.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that refuses even root")
def test_a_place_that_takes_no_file_is_found_before_the_drawing(generate: Program) -> None:
    """No permission forbids it, and yet nobody can write there."""
    done = generate(PROMPT, "-o", "/proc/nowhere/out.png")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("unclip: cannot write /proc/nowhere/out.png")
    assert done.err.count("\n") == 1


def test_the_prompt_may_stand_behind_its_option(generate: Program) -> None:
    assert generate("--prompt", PROMPT, "--seed", "7").out == "a-red-apple-7.png\n"


def test_an_option_that_comes_twice_is_joined(generate: Program) -> None:
    steps = ("--steps", "prior=2", "--steps", "decoder=3", "--steps", "prior=4")
    settings = json.loads(generate(PROMPT, *steps, "--json").out)["settings"]
    assert (settings["prior"]["num_steps"], settings["decoder"]["num_steps"]) == (4, 3)


def test_pictures_may_be_drawn_together(generate: Program) -> None:
    done = generate(PROMPT, "-n", "3", "--batch-size", "3", "--seed", "7", "-o", "x.png")
    assert done.code == 0
    assert done.err.splitlines() == ["prior: 3 steps", "decoder: 3 steps", "upsampler_32: 2 steps"]


@pytest.mark.parametrize("name", ["clip.safetensors", "decoder.safetensors", "config.json", "tokenizer.json"])
def test_a_truncated_model_is_one_line(unclip: Program, tiny_folder: Path, tmp_path: Path, name: str) -> None:
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (model / name).write_bytes((model / name).read_bytes()[:200])
    done = unclip("generate", PROMPT, "--model", model, "-o", tmp_path / "out" / "x.png")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert name in done.err
    assert not (tmp_path / "out").exists()


def target(model: Path, folder: Path) -> list[str]:
    return ["--model", str(model), "-o", str(folder / "new" / "x.png")]


PROGRAM = "import sys; from unclip.cli import main; sys.argv[0] = 'unclip'; main()"


def test_a_full_disk_leaves_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    """A file-size limit of 1 KiB stands for the full disk: the write itself fails, half way."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)); "
    done = subprocess.run(
        [sys.executable, "-B", "-c", limit + PROGRAM, "generate", PROMPT, "-n", "2", *target(tiny_folder, tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_ends_with_130_and_leaves_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PROGRAM,
            "generate",
            PROMPT,
            "--steps",
            "prior=1,decoder=1000",
            "-n",
            "50",
            "--batch-size",
            "1",
            *target(tiny_folder, tmp_path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has its children ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert first.startswith("prior: ")
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_every_text_that_was_cut_is_noted(generate: Program, unclip: Program, tiny_folder: Path) -> None:
    """The negative prompt, a draft's and its pictures', the text to come from, every part of a mix."""
    quick = ["--steps", "1", "--seed", "7", "--model", str(tiny_folder)]

    def notes(*arguments: str) -> int:
        done = unclip(*arguments, *quick)
        assert done.code == 0, done.err
        return sum("is too long; not read: " in line for line in done.err.splitlines())

    Image.new("RGB", (8, 8)).save("grey.png")
    assert notes("generate", PROMPT, "--negative", LONG) == 1
    assert notes("generate", LONG, "--negative", LONG[5:]) == 2
    assert notes("generate", LONG, "--negative", LONG[5:], "--stop-after", "prior", "-o", "d.safetensors") == 2
    assert unclip("finish", "d.safetensors", "--model", tiny_folder).err.count("is too long; not read: ") == 2
    assert notes("edit", "grey.png", "--from", LONG, "--to", PROMPT) == 1
    assert notes("mix", f"{PROMPT}=0.9", f"{LONG}=0.1", f"{LONG[5:]}=-0.1") == 2
    assert notes("generate", PROMPT, "--negative", "a tree") == 0


def test_without_a_prompt_a_decoder_alone_draws(
    unclip: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = tiny_pipeline()
    dataclasses.replace(whole, stages={"decoder": whole.need_decoder}).save("half")
    done = unclip("generate", "--unconditional", "-n", "2", "--seed", "7", "--model", "half")
    assert (done.code, done.out) == (0, "unconditional-7.png\nunconditional-8.png\n")
    with Image.open("unconditional-7.png") as image:
        assert (image.size, image.text["prompt"]) == ((16, 16), "")  # type: ignore[attr-defined]
        assert json.loads(image.text["settings"])["unconditional"] is True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments", [[PROMPT], ["--negative", "x"], ["--candidates", "2"], ["--best-of", "2"], ["--stop-after", "decoder"]]
)
def test_what_needs_a_text_is_refused_without_one(generate: Program, tmp_path: Path, arguments: list[str]) -> None:
    done = generate("--unconditional", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--unconditional draws of nothing" in done.err
    assert list(tmp_path.glob("*.png")) == []
    assert "nothing says what to draw" in generate().err
