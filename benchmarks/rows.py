"""The rows of the table that models are compared by: the shipped model, and presets with random weights.

    python benchmarks/rows.py [NAME ...] [--evaluation benchmarks/results/evaluate_emoji.json] [--device cpu]

Each row is one `unclip bench sample`, whose line of JSON is kept in benchmarks/results/rows.json with the command that
made it; rows that are not asked for stay. dalle2-paper needs 8 GB and some minutes on two cores.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import write_result

ROWS = {
    "emoji": ["--model", "emoji", "--size", "256", "--batch", "1,16"],
    "emoji-1024": ["--model", "emoji", "--size", "1024"],
    "karlo": ["--preset", "karlo", "--repeats", "2"],
    "reference": ["--preset", "reference", "--repeats", "2"],
    "dalle2-paper": ["--preset", "dalle2-paper", "--repeats", "1"],
}


def main() -> None:
    """Measure the rows, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ROWS)}; else all")
    parser.add_argument("--evaluation", type=Path, help="results.json of the shipped model, for its row")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rows.json"))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(ROWS):
        parser.error(f"there is no row {sorted(unknown)[0]!r}; choose among {', '.join(ROWS)}")
    rows: dict[str, Any] = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else {}
    for name in arguments.names or ROWS:
        words = ["bench", "sample", *ROWS[name], "--device", arguments.device]
        if arguments.evaluation is not None and name == "emoji":
            words += ["--evaluation", str(arguments.evaluation)]
        rows[name] = measured([*words, "--json"])
        write_result(arguments.out, {"rows": rows}, arguments.device)
    print(table(rows))


def measured(words: list[str]) -> dict[str, Any]:
    """What a benchmark said in its last line."""
    run = subprocess.run([sys.executable, "-m", "unclip", *words], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found | {"command": shlex.join(["unclip", *words[:-1]])}


def table(rows: dict[str, Any]) -> str:
    """The rows as Markdown."""
    cells = [list(row["row"].values()) for row in rows.values()]
    titles = list(next(iter(rows.values()))["row"])
    return "\n".join(f"| {' | '.join(line)} |" for line in [titles, ["---"] * len(titles), *cells])


if __name__ == "__main__":
    main()
