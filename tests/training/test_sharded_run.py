"""What two processes of a sharded run promise each other; `sharded_worker.py` holds the promises."""

from collections.abc import Callable
from pathlib import Path

from processes import finish, start
from short_runs import changed
from unclip.training import TrainConfig

WORKER = Path(__file__).parents[1] / "helpers" / "sharded_worker.py"


def test_shards_are_built_embedded_written_and_resumed_by_the_first_process(
    tiny_recipe: Callable[[str], TrainConfig], tmp_path: Path
) -> None:
    """And the others hold no whole network, embed no picture, and start with the weights of one process."""
    config = changed(tiny_recipe("emoji/prior"), num_text_tokens=0, text_dim=None)
    config = config.replace(strategy="fsdp", ema="power", ema_sigma_rel=(0.05, 0.1))
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    for code, errors in finish(start([WORKER, path, tmp_path / "run"], 2)):
        assert code == 0, errors
