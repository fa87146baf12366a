"""One process of a training run that the tests start, as a launcher would: `python training_worker.py RUNS.json`.

Each run of the list is trained for some steps; what it came to is written beside it, by every process.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import torch

from unclip.checkpoint import save_tensors
from unclip.config import load_config
from unclip.training import Feed, Position, TrainConfig, join, make_state, make_task, train_steps
from unclip.training.validation import validate


def main(path: Path) -> None:
    torch.set_num_threads(1)
    runs = json.loads(path.read_text())
    with join("cpu") as cluster:
        for run in runs:
            config = load_config(TrainConfig, run["config"])
            task = make_task(config, cluster.device)
            state = make_state(task, config, cluster)
            feed = Feed(task.samples, config, cluster)
            steps = train_steps(task, state, Position(), config, feed, cluster)
            losses = [report.loss for report in islice(steps, run["num_steps"])]
            out = Path(run["out"])
            out.mkdir(parents=True, exist_ok=True)
            average = {
                name: tensor.full_tensor() if isinstance(tensor, torch.distributed.tensor.DTensor) else tensor
                for name, tensor in state.averages.networks[0].state_dict().items()
            }
            figures = validate(task, state, config, feed, cluster)
            (out / f"figures-{cluster.rank}.json").write_text(json.dumps(figures))
            save_tensors(out / f"average-{cluster.rank}.safetensors", average, {})
            (out / f"losses-{cluster.rank}.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
