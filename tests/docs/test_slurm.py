"""The Slurm script trains in the processes that Slurm starts; a stand-in for srun starts them as it does."""

import os
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""
# The second host comes when the first has long been read, as it does from a slow controller.
SCONTROL = "#!/bin/bash\necho localhost\nsleep 0.5\necho another\n"


def test_two_tasks_of_slurm_train_one_run(tmp_path: Path) -> None:
    for name, program in {"srun": SRUN, "scontrol": SCONTROL}.items():
        script = tmp_path / name
        script.write_text(program)
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_ID": str(os.getpid()),
        "PATH": path,
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", str(ROOT / "examples/slurm/train.sbatch"), "cc3m/prior", "--smoke", "--device", "cpu"]
    run = subprocess.run(
        [*command, "--out", "run"], cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True
    )
    # Two runs of one process each would be refused the folder, or write their log twice.
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "run/prior.safetensors").exists()
    assert (tmp_path / "run/log.jsonl").read_text().count("\n") == 4
