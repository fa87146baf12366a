"""Count requests and passes for Prometheus; a registry for each server, so that two in a process do not mix."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "unclip_requests", "Answers by route and status.", ["route", "status"], registry=self._registry
        )
        self.images = Counter("unclip_images", "Pictures that were drawn.", registry=self._registry)
        self.waiting = Gauge("unclip_waiting_requests", "Requests in the queue.", registry=self._registry)
        self.passes = Histogram("unclip_pass_seconds", "Seconds of a pass.", registry=self._registry)
        self.batch = Histogram(
            "unclip_pass_images", "Pictures of a pass.", buckets=(1, 2, 4, 8, 16, 32), registry=self._registry
        )

    def text(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        return generate_latest(self._registry)
