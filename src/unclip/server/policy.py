"""The hook of a further policy: what may be asked for, and what may be sent. Knows no rule itself."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from unclip.pipelines import Result
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
