"""One process of a training run that the tests start, as a launcher would: `python training_worker.py RUNS.json`.

Each run of the list is trained for some steps; what it came to is written beside it, by every process.
"""

import json
import sys
from pathlib import Path

import torch

from unclip.checkpoint import save_tensors
from unclip.config import load_config
from unclip.training import TrainConfig, Trainer, init_cluster
from unclip.training.distributed import full_tensor


def main(path: Path) -> None:
    torch.set_num_threads(1)
    runs = json.loads(path.read_text())
    with init_cluster("cpu") as cluster:
        for run in runs:
            config = load_config(TrainConfig, run["config"])
            trainer = Trainer.open(config, cluster)
            losses = [trainer.step().loss for _ in range(run["num_steps"])]
            out = Path(run["out"])
            out.mkdir(parents=True, exist_ok=True)
            average = trainer.state.averages.networks[0].state_dict()
            average = {name: full_tensor(tensor) for name, tensor in average.items()}
            figures = trainer.validate()
            (out / f"figures-{cluster.rank}.json").write_text(json.dumps(figures))
            save_tensors(out / f"average-{cluster.rank}.safetensors", average, {})
            (out / f"losses-{cluster.rank}.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
