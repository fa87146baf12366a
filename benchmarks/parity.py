"""Claim: every published unCLIP part computes here what it computes in the code that made it.

    python benchmarks/parity.py

Runs the tests that compare with the real classes (diffusers, transformers) or with golden tensors made once by
DALLE2-pytorch, and keeps the largest difference of every comparison: one row per part, over all its cases.
"""

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from record import write_result

TESTS = Path(__file__).parents[1] / "tests"
_LOOPS = "parity/test_unclip_loops.py::test_"
LOOPS = {
    "text": [_LOOPS + name for name in ("shapes", "guidance_and_steps", "prompts_and_batches", "bounds_of_x0")],
    "variations": [
        _LOOPS + name
        for name in (
            "variations_of_a_picture",
            "variations_by_guidance_and_steps",
            "shapes_of_variations",
            "variations_of_squashed_pictures",
        )
    ],
}
ROWS = {
    "Prior": ("diffusers PriorTransformer", "interop/test_unclip_names.py::test_prior"),
    "Decoder": ("diffusers UNet2DConditionModel, UnCLIPTextProjModel", "interop/test_unclip_names.py::test_decoder"),
    "Upsampler": ("diffusers UNet2DModel", "interop/test_unclip_names.py::test_upsampler"),
    "CLIP, text": ("transformers CLIPTextModel", "parity/test_clip.py::test_text_embedding_and_hidden"),
    "CLIP, images": ("transformers CLIPVisionModel", "parity/test_clip.py::test_image_embedding"),
    "CLIP, pictures": (
        "transformers CLIPImageProcessor",
        "parity/test_clip.py::test_embeddings_of_pictures_of_many_shapes",
    ),
    "Kandinsky decoders": (
        "diffusers UNet2DConditionModel",
        "interop/test_kandinsky.py::test_decoders_equal_diffusers",
    ),
    "Kandinsky priors": ("diffusers PriorTransformer", "interop/test_kandinsky.py::test_priors_equal_diffusers"),
    "MoVQ": ("diffusers VQModel", "interop/test_kandinsky.py::test_autoencoders_equal_diffusers"),
    "Kandinsky 2.1 text": (
        "diffusers MultilingualCLIP",
        "clip/test_multilingual.py::test_it_equals_the_published_class",
    ),
    "LAION priors": ("DALLE2-pytorch 1.15.6 and 1.1.0, golden", "interop/test_dalle2_prior.py::test_prior"),
    "LAION priors, no text": ("the same", "interop/test_dalle2_prior.py::test_prior_without_text"),
    "LAION decoders": ("DALLE2-pytorch 1.15.6 and 1.1.0, golden", "interop/test_dalle2_unet.py::test_unet"),
    "LAION decoders, nulls": ("the same", "interop/test_dalle2_unet.py::test_unet_without_image_or_text"),
    "text to image, whole": ("diffusers UnCLIPPipeline", *LOOPS["text"]),
    "image variations, whole": ("diffusers UnCLIPImageVariationPipeline", *LOOPS["variations"]),
}
# Compared with torch.equal and ==: what passes differs in nothing.
EQUAL = {
    "tokenizer, 1,000 odd strings": (
        "transformers CLIPTokenizer",
        "parity/test_tokenizer.py::test_a_thousand_odd_strings_on_openais_vocabulary",
    ),
    "unCLIP folders, there and back": (
        "diffusers, every tensor",
        "interop/test_unclip_folder.py::test_round_trips_keep_every_bit",
    ),
    "Karlo, original files": (
        "diffusers' folder of the same weights",
        "interop/test_karlo.py::test_every_tensor_is_that_of_diffusers",
    ),
    "Kandinsky folders": (
        "diffusers, every tensor",
        "interop/test_kandinsky_folder.py::test_every_tensor_is_that_of_diffusers",
    ),
}


@dataclass(eq=False)
class Recorder:
    """A pytest plugin that watches `torch.testing.assert_close` and keeps the largest difference of each test."""

    current: str = ""
    largest: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    relative: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The largest difference over the standard deviation of what was expected."""
    cases: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    failed: list[str] = field(default_factory=list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        """Watch one test."""
        self.current = item.nodeid.partition("[")[0].removeprefix("tests/")
        self.cases[self.current].add(item.nodeid)
        compare = torch.testing.assert_close

        def watched(actual: Any, expected: Any, **options: Any) -> None:
            expected_values = torch.as_tensor(expected).double()
            difference = float((torch.as_tensor(actual).double() - expected_values).abs().max())
            self.largest[self.current] = max(self.largest[self.current], difference)
            spread = difference / float(expected_values.std())
            self.relative[self.current] = max(self.relative[self.current], spread)
            compare(actual, expected, **options)

        torch.testing.assert_close = watched
        try:
            return (yield)
        finally:
            torch.testing.assert_close = compare

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what failed."""
        if report.failed:
            self.failed.append(report.nodeid)


def main() -> None:
    """Run the comparisons, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/parity.json"))
    arguments = parser.parse_args()
    recorder = Recorder()
    tests = [str(TESTS / test) for _, *tests in (ROWS | EQUAL).values() for test in tests]
    pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[recorder])
    assert not recorder.failed, recorder.failed
    rows = [
        {
            "part": part,
            "reference": reference,
            "cases": sum(len(recorder.cases[test]) for test in tests),
            "largest": max(recorder.largest[test] for test in tests),
            "largest_over_std": max(recorder.relative[test] for test in tests),
        }
        for part, (reference, *tests) in ROWS.items()
    ]
    rows += [
        {
            "part": part,
            "reference": reference,
            "cases": len(recorder.cases[test]),
            "largest": 0.0,
            "largest_over_std": 0.0,
        }
        for part, (reference, test) in EQUAL.items()
    ]
    assert all(row["cases"] for row in rows), rows
    for row in rows:
        differences = f"{row['largest']:.1e} ({row['largest_over_std']:.1e} of the spread)"
        print(f"{row['part']:<30} {row['reference']:<52} {row['cases']:>3} cases  {differences}")
    versions = {
        "torch": torch.__version__,
        **{name: __import__(name).__version__ for name in ("diffusers", "transformers")},
    }
    result = {"rows": rows, "versions": versions, "date": time.strftime("%Y-%m-%d")}
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
