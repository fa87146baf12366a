"""The program of a measuring process: a job on standard input, what it found on standard output. Knows no report."""

import json
import sys

from pydantic import TypeAdapter

from unclip.bench.jobs import AnyJob
from unclip.bench.measure import measure
from unclip.errors import UnclipError


def main() -> None:
    """Do the job that another process sent; an error of ours goes back as one."""
    sent = json.loads(sys.stdin.read())
    try:
        found = measure(TypeAdapter(AnyJob).validate_python(sent["job"]))
        answer: dict[str, object] = {"found": found.model_dump(mode="json")}
    except UnclipError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
