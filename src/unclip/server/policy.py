"""The hook of a safety policy: what may be asked for, and what may be sent. Knows no rule itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from unclip.pipelines import Result
from unclip.pipelines.options import TASKS
from unclip.pipelines.tasks.embeddings import Input
from unclip.server.errors import ApiError


class PolicyError(ApiError):
    """What the policy refuses; its message is one sentence for whoever asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="content_policy_violation")


@runtime_checkable
class Policy(Protocol):
    """Decides on requests and results; both methods raise `PolicyError` for what is blocked."""

    def check_request(self, texts: Sequence[str], pictures: Sequence[Image.Image]) -> None:
        """Check what a request says and shows, before anything is drawn."""

    def check_result(self, result: Result) -> Result:
        """Return the result as it may be sent: the same, or with pictures that were changed."""


class AllowAll:
    """The policy that has no rule."""

    def check_request(self, texts: Sequence[str], pictures: Sequence[Image.Image]) -> None:
        """Allow every request."""

    def check_result(self, result: Result) -> Result:
        """Allow every result."""
        return result


def said_and_shown(task: str, arguments: Mapping[str, Any]) -> tuple[list[str], list[Image.Image]]:
    """Return all texts and all pictures among the arguments of a task."""
    texts: list[str] = []
    pictures: list[Image.Image] = []
    kinds = {option.name: option.kind for option in TASKS[task].options}
    kinds_read = ("text", "picture", "mask", "text or picture", "weighted parts")
    waiting = [value for name, value in arguments.items() if kinds.get(name) in kinds_read]
    while waiting:
        match waiting.pop():
            case Input(name, None):
                texts.append(name)
            case str(text):
                texts.append(text)
            case Image.Image() as picture:
                pictures.append(picture)
            case list() | tuple() as several:
                waiting.extend(several)
    return texts, pictures
