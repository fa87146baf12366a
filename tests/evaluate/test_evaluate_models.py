"""Evaluating a model: pictures and seeds, chunks and processes, resuming, sweeps, suites, COCO."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluate_process import evaluate
from processes import ROOT, finish, start
from tiny_features import PROMPTS, Finished, options, rows_of, tiny_network, write_digits
from unclip.data import emoji_items, write_shards
from unclip.errors import InputError
from unclip.evaluate import Evaluation, evaluate_folders, evaluate_model
from unclip.evaluate.options import choose_metrics, count_different
from unclip.images import crop_square
from unclip.metrics import ClipFeatures, clip_score, diversity, frechet_distance
from unclip.pipelines import UnClip


def values(found: Evaluation | None) -> list[dict[str, float]]:
    assert found is not None
    return [{figure.name: figure.value for figure in point.figures} for point in found.points]


def saved(folder: Path) -> Evaluation:
    return Evaluation.model_validate_json((folder / "results.json").read_bytes())


def test_figures_are_of_the_pictures_that_the_model_draws(
    pipe: UnClip, judge: ClipFeatures, real: Path, tmp_path: Path
) -> None:
    network = tiny_network()
    asked = options(tmp_path, images_per_prompt=2, pictures_per_chunk=4, suites=["diversity"])
    found = evaluate_model(pipe, PROMPTS, real, [network, judge], tmp_path / "out", options=asked)
    assert found is not None

    seeds = range(3, 13)
    drawn = [pipe.text_to_image(PROMPTS[place // 2], seed=seed).images[0] for place, seed in enumerate(seeds)]
    digits = [crop_square(Image.open(path), 32) for path in sorted(real.glob("*.png"))]
    rows = rows_of(network, drawn)
    expected = frechet_distance(rows, rows_of(network, digits))
    seen = torch.cat([judge.encoder.encode_pictures([image]) for image in drawn])
    texts = judge.texts([prompt for prompt in PROMPTS for _ in range(2)])
    point = found.points[0]
    assert values(found)[0]["fid"] == pytest.approx(expected, rel=1e-5)
    assert values(found)[0]["clip_score"] == pytest.approx(clip_score(seen, texts).mean().item(), rel=1e-5)
    assert point.suites["diversity"]["diversity"] == pytest.approx(
        diversity(seen.unflatten(0, (5, 2))).mean().item(), rel=1e-4
    )
    assert point.seeds == tuple(seeds)
    assert point.prompts == tuple(prompt for prompt in PROMPTS for _ in range(2))
    for path, image in zip(point.samples, drawn, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / path)), np.asarray(image))
    assert (found.num_images, found.num_reference, found.image_size) == (10, 7, 32)
    assert saved(tmp_path / "out") == found


def test_saved_pictures_evaluate_as_the_model_does(
    pipe: UnClip, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unclip.evaluate.drawing.NUM_SAMPLES", 4)
    asked = options(tmp_path, keep_pictures=True, size=16, num_steps=1)
    prompts = [f"the digit {number}" for number in range(6)]
    found = evaluate_model(pipe, prompts, real, [tiny_network()], tmp_path / "out", options=asked)
    kept = evaluate_folders(tmp_path / "out" / "pictures", real, [tiny_network()], options=options(tmp_path, size=16))
    assert found is not None
    assert len(found.points[0].samples) == 4
    assert len(list((tmp_path / "out" / "pictures" / "all").iterdir())) == 6
    assert values(found) == values(kept)
    few = evaluate_model(
        pipe, prompts, real, [tiny_network()], tmp_path / "few", options=replace(asked, keep_pictures=False)
    )
    assert values(few) == values(found)
    assert len(list((tmp_path / "few" / "pictures" / "all").iterdir())) == 4


def test_chunks_change_nothing(pipe: UnClip, judge: ClipFeatures, finished: Finished, tmp_path: Path) -> None:
    folders = [finished.out]
    for length in (1, 64):
        folders.append(tmp_path / str(length))
        found = evaluate_model(
            pipe, PROMPTS, finished.reference, [tiny_network(), judge], folders[-1],
            options=options(finished.root, pictures_per_chunk=length, batch_size=1),
        )  # fmt: skip
        assert values(found)[0] == pytest.approx(values(finished.evaluation)[0], rel=1e-9)
    rows = [torch.cat([_rows(path) for path in sorted(folder.rglob("*.safetensors"))]) for folder in folders]
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])


def _rows(path: Path) -> torch.Tensor:
    from unclip.checkpoint import load_tensors

    return load_tensors(path).tensors["inception"]


def test_one_process_two_processes_and_a_killed_one_find_the_same(tmp_path: Path) -> None:
    program, folders = ROOT / "tests" / "helpers" / "evaluate_process.py", []
    for name in ("one", "two", "killed"):
        write_digits(tmp_path / name / "reference", range(7))
        folders.append(tmp_path / name)
    one, two, killed = folders
    expected = values(evaluate(one, 5))
    assert len(expected) == 2

    running = start([program, killed, "5"], 1)
    while not list(killed.rglob("out/features/*/*.safetensors")):
        assert running[0].poll() is None
        time.sleep(0.005)
    running[0].send_signal(signal.SIGKILL)
    running[0].communicate()
    assert not (killed / "out" / "results.json").exists()
    made = {path: path.stat().st_mtime_ns for path in killed.rglob("*.safetensors")}

    assert finish(start([program, two, "5"], 2)) == [(0, ""), (0, "")]
    assert finish(start([program, killed, "5"], 1)) == [(0, "")]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert values(saved(two / "out")) == expected
    assert values(saved(killed / "out")) == expected
    assert {path.name for path in (two / "out" / "features").iterdir()} == {
        "decoder-guidance-1",
        "decoder-guidance-3",
    }


def test_a_process_draws_its_share_alone(
    pipe: UnClip, judge: ClipFeatures, finished: Finished, real: Path, tmp_path: Path
) -> None:
    networks = [tiny_network(), judge]
    shares = [options(tmp_path, pictures_per_chunk=2, batch_size=1, node=(number, 2)) for number in range(2)]
    assert evaluate_model(pipe, PROMPTS, real, networks, tmp_path / "out", options=shares[0]) is None
    assert len(list((tmp_path / "out" / "features" / "all").iterdir())) == 2
    # A machine whose cache lacks the other's share of the reference computes it in the end.
    second = replace(shares[1], cache=tmp_path / "other")
    whole = evaluate_model(pipe, PROMPTS, real, networks, tmp_path / "out", options=second)
    assert values(whole) == values(finished.evaluation)


def test_a_finished_evaluation_draws_no_more_and_takes_other_metrics(
    pipe: UnClip, judge: ClipFeatures, finished: Finished, tmp_path: Path
) -> None:
    network, copy = tiny_network(), finished.copy(tmp_path / "copy")
    asked = options(copy.root, pictures_per_chunk=2, batch_size=1, metrics=["kid", "fid", "clip_score"], bootstrap=10)
    again = evaluate_model(pipe, PROMPTS, copy.reference, [network, judge], copy.out, options=asked)
    assert network.module.num_seen == 0
    assert values(again)[0].keys() == {"kid", "fid", "clip_score"}
    assert values(again)[0]["fid"] == pytest.approx(values(finished.evaluation)[0]["fid"], rel=1e-6)


def test_a_chunk_that_is_not_whole_is_made_again(
    pipe: UnClip, judge: ClipFeatures, finished: Finished, tmp_path: Path
) -> None:
    network, copy = tiny_network(), finished.copy(tmp_path / "copy")
    path = copy.out / "features/all/chunk-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    asked = options(copy.root, pictures_per_chunk=2, batch_size=1)
    again = evaluate_model(pipe, PROMPTS, copy.reference, [network, judge], copy.out, options=asked)
    assert values(again) == values(finished.evaluation)
    assert network.module.num_seen == 2


def test_repeated_prompts_leave_out_what_needs_different_ones() -> None:
    kinds, count = ["clip"], count_different(["A cat", "a  cat", "a dog"] * 40)
    chosen, notes = choose_metrics(None, kinds, compares=False, num_images=120, num_texts=count)
    assert [metric.name for metric in chosen] == ["clip_score"]
    assert notes[-1] == "R-precision is left out: it needs at least 100 different prompts, but there are 2."
    with pytest.raises(InputError, match=r"r_precision needs at least 100 different prompts, but there are 2"):
        choose_metrics(["r_precision"], kinds, compares=False, num_images=120, num_texts=count)


def test_a_sweep_has_a_point_for_each_value(pipe: UnClip, real: Path, tmp_path: Path) -> None:
    asked = options(
        tmp_path, sweep={"guidance_scale.decoder": [1.0, 4.0], "num_steps": [2, 3]}, guidance_scale=2.0, sampler="ddim"
    )
    found = evaluate_model(pipe, PROMPTS, real, [tiny_network()], tmp_path / "out", options=asked)
    assert found is not None
    labels = [f"decoder guidance {scale}, steps {steps}" for scale in (1, 4) for steps in (2, 3)]
    assert [point.label for point in found.points] == labels
    last = {stage: found.points[-1].settings[stage] for stage in ("prior", "decoder", "upsampler_32")}
    chosen = {stage: (one["num_steps"], one["guidance_scale"], one["sampler"]) for stage, one in last.items()}  # type: ignore[index]
    assert chosen == {"prior": (3, 2.0, "ddim"), "decoder": (3, 4.0, "ddim"), "upsampler_32": (3, 1.0, "ddim")}
    alone = evaluate_model(
        pipe, PROMPTS, real, [tiny_network()], tmp_path / "alone",
        options=options(tmp_path, num_steps=3, guidance_scale={"prior": 2.0, "decoder": 4.0}, sampler="ddim"),
    )  # fmt: skip
    assert values(found)[-1] == values(alone)[0]
    assert len({point["fid"] for point in values(found)}) == 4


def write_coco(folder: Path, num_images: int) -> Path:
    """Digits as COCO's captions_val2014.json has its pictures: two captions of each."""
    names = [f"COCO_val2014_{number:012}" for number in range(num_images)]
    write_digits(folder / "val2014", range(num_images), names)
    for path in (folder / "val2014").glob("*.txt"):
        path.unlink()
    images = [{"id": number, "file_name": f"{name}.png", "height": 8, "width": 8} for number, name in enumerate(names)]
    annotations = [
        {
            "image_id": number // 2,
            "id": 700 - number,
            "caption": f"{'A' if number % 2 else 'the'} digit {number // 2}.\n",
        }
        for number in range(2 * num_images)
    ]
    info = {"info": {"year": 2014}, "licenses": [], "images": images, "annotations": annotations}
    (folder / "captions_val2014.json").write_text(json.dumps(info))
    return folder / "captions_val2014.json"


def test_captions_of_coco_are_chosen_by_seed(pipe: UnClip, tmp_path: Path) -> None:
    captions = write_coco(tmp_path, 6)
    found = evaluate_model(
        pipe, captions, tmp_path / "val2014", [tiny_network()], tmp_path / "out",
        options=options(tmp_path, num_images=4),
    )  # fmt: skip
    other = evaluate_model(
        pipe, captions, tmp_path / "val2014", [tiny_network()], tmp_path / "other",
        options=options(tmp_path, num_images=4, seed=4),
    )  # fmt: skip
    assert found is not None
    assert other is not None
    there = {f"{word} digit {number}." for number in range(6) for word in ("A", "the")}
    assert len(set(found.points[0].prompts)) == 4
    assert set(found.points[0].prompts) < there
    assert found.points[0].prompts != other.points[0].prompts
    assert (found.num_images, found.num_reference) == (4, 6)
    with pytest.raises(InputError, match=r"has 12 captions, but 13 are asked for"):
        evaluate_model(
            pipe, captions, None, [tiny_network()], tmp_path / "more", options=options(tmp_path, num_images=13)
        )


def test_captioned_emoji_and_lines_of_a_file_are_prompts(pipe: UnClip, tmp_path: Path) -> None:
    items = emoji_items("test")[::100][:6]
    write_shards(tmp_path / "emoji", items, 32, "emoji-test")
    asked = options(tmp_path, suites=["prior", "round_trip", "upsampler"])
    found = evaluate_model(
        pipe, tmp_path / "emoji", tmp_path / "emoji", [tiny_network()], tmp_path / "out", options=asked
    )
    assert found is not None
    assert set(found.points[0].prompts) == {item.captions[0] for item in items}
    assert set(found.points[0].suites) == {"prior", "round_trip", "upsampler"}
    assert found.points[0].suites["round_trip"]["cosine_mean"] < 1.0
    (tmp_path / "lines.txt").write_text("\n a cat\n\nthe sun \n", encoding="utf-8")
    lines = evaluate_model(
        pipe,
        tmp_path / "lines.txt",
        tmp_path / "emoji",
        [tiny_network()],
        tmp_path / "lines",
        options=options(tmp_path),
    )
    assert lines is not None
    assert lines.points[0].prompts == ("a cat", "the sun")


def test_suites_are_computed_once(pipe: UnClip, real: Path, tmp_path: Path) -> None:
    asked = options(tmp_path, suites=["upsampler"], num_suite_pictures=3)
    seen: list[str] = []
    first, second = (
        evaluate_model(
            pipe, PROMPTS[:2], real, [tiny_network()], tmp_path / "out", options=asked,
            progress=lambda stage, done, total: seen.append(stage),
        )
        for _ in range(2)
    )  # fmt: skip
    assert first is not None
    assert second is not None
    assert first.points[0].suites == second.points[0].suites
    assert seen.count("upsampler_32") == 2 * 3


def test_the_models_own_clip_as_a_judge_is_noted(pipe: UnClip, finished: Finished, real: Path, tmp_path: Path) -> None:
    own = ClipFeatures(pipe.clip, "tiny")
    found = evaluate_model(pipe, PROMPTS[:2], real, [own], tmp_path / "out", options=options(tmp_path))
    assert found is not None
    circular = [[note for note in one.notes if "circular" in note] for one in (found, finished.evaluation)]
    assert circular == [
        ["The judge clip:tiny is the model's own CLIP: figures by it are circular, and flatter the model."],
        [],
    ]


def test_prompts_that_are_cut_are_noted(pipe: UnClip, real: Path, tmp_path: Path) -> None:
    long = " and ".join(["an old house near the yellow sun"] * 5)
    found = evaluate_model(
        pipe, [PROMPTS[0], long], real, [tiny_network()], tmp_path / "out", options=options(tmp_path)
    )
    assert found is not None
    assert "1 prompts are longer than the model reads; their ends had no part in the drawing." in found.notes
