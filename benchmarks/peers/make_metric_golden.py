"""Makes tests/golden/metrics.safetensors: what torch-fidelity answers to features, logits and pictures of a fixed rule.

In the root of the repository:

    python benchmarks/peers/install.py torch_fidelity
    PYTHONPATH=tests .venv-peers/torch_fidelity/bin/python benchmarks/peers/make_metric_golden.py \\
        tests/golden/metrics.safetensors

`metric_golden.py` of the tests has the rule, and needs only numpy, torch and safetensors. Names: `PICTURE/NAME` are
outputs of the network, whose 24 million weights the rule makes too. The metadata's "metrics" is JSON: metrics of the
features; "versions" says who answered.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torch_fidelity.version import __version__

from metric_golden import PICTURES, picture, rows, weights

OUTPUTS = ("2048", "logits_unbiased", "logits")


def metrics() -> dict[str, float]:
    drawn, real, equal, logits = (rows(name) for name in ("drawn", "real", "equal", "logits"))
    statistics = [fid_features_to_statistics(features) for features in (drawn, real)]
    found = {"fid": fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]}
    # One subset of everything: the estimate over all pairs, for which both sets are to be of one size.
    kid = kid_features_to_metric(equal, drawn, kid_subsets=1, kid_subset_size=len(equal), verbose=False)
    found["kid"] = kid["kernel_inception_distance_mean"]
    for splits in (1, 10):
        score = isc_features_to_metric(logits, splits, shuffle=False)
        found |= {f"is_{splits}": score["inception_score_mean"], f"is_{splits}_std": score["inception_score_std"]}
    for neighbours in (3, 5):
        prc = prc_features_to_metric(drawn, real, prc_neighborhood=neighbours, verbose=False)
        found |= {f"{name}_{neighbours}": prc[name] for name in ("precision", "recall")}
    return found


class RandomInception(FeatureExtractorInceptionV3):
    """The network with weights of the rule, whatever its file holds."""

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items() if tensor.ndim > 0}
        super().load_state_dict(weights(shapes))


def outputs() -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({}, path)
        network = RandomInception("inception-v3-compat", list(OUTPUTS), feature_extractor_weights_path=path)
    found = {name: zip(OUTPUTS, network(picture(name)), strict=True) for name in PICTURES}
    return {f"{name}/{key}": value.contiguous() for name, pairs in found.items() for key, value in pairs}


def main(path: Path) -> None:
    tensors, answers = outputs(), metrics()
    versions = {"torch-fidelity": __version__, "torch": torch.__version__}
    save_file(tensors, path, metadata={"metrics": json.dumps(answers), "versions": json.dumps(versions)})
    for name, value in answers.items():
        print(name, value)
    for name, tensor in tensors.items():
        print(name, tuple(tensor.shape), f"mean {tensor.mean():.3f}, std {tensor.std():.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
