"""Serve a model by several replicas on Ray: each is the server of one machine, behind the proxies of Ray Serve."""

import logging
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from unclip.config import Config
from unclip.errors import InputError, optional_module
from unclip.files import expand_home
from unclip.model import find_model
from unclip.pipelines import UnClip
from unclip.progress import say
from unclip.server.app import create_app
from unclip.server.config import ServerConfig
from unclip.server.gate import AsgiApp
from unclip.server.memory import bound_arenas
from unclip.server.run import GRACE_SECONDS, listen, say_address, write_audit
from unclip.server.store import Store

NAME = "unclip"
MAX_ONGOING = 1000
"""Requests that a replica has open, most of which wait; how many may is said by its own queue."""
HEALTH_SECONDS = 2.0
"""Between two looks of Ray whether a replica lives."""
TURN_SECONDS = 0.5


class ClusterConfig(Config):
    """What serves a model on a cluster."""

    num_replicas: int = Field(ge=1)
    device: str = "auto"
    """auto, cpu, cuda or mps, on each replica's machine."""
    cpus_per_replica: float = Field(1.0, gt=0)
    """CPUs that Ray sets aside for each replica, which has as many threads."""
    gpus_per_replica: float = Field(0.0, ge=0)
    audit: str | None = None
    """A file to which each replica writes a line for each request."""


def build_cluster(model: str, config: ServerConfig, cluster: ClusterConfig) -> Any:
    """Return the application that `ray.serve.run` takes: replicas that share the store and the history of `config`.

    They have no studio, whose pages would need every request at the replica that has their state.

    The store, the audit and the model must be reachable by the same path from all machines, and the database by the
    same URL; a SQLite file is for replicas on one machine. The queue and the rate of `config` are those of each
    replica. Raises `InputError` for a model that does not exist and a store that cannot be used, and `DependencyError`
    without Ray.
    """
    # Absolute, since replicas do not share the working directory.
    if (path := find_model(model)).exists() and expand_home(model).exists():
        model = str(path.absolute())
    config = config.replace(store=expand_home(config.store).absolute())
    if (policy := expand_home(config.safety)).is_file():
        config = config.replace(safety=str(policy.absolute()))
    audit = None if cluster.audit is None else str(expand_home(cluster.audit).absolute())
    # Makes the tables once, which two replicas that start together would both try.
    Store(config.store, config.database, config.lifetime_hours * 3600).close()
    ray_serve = optional_module("ray.serve", "serving by replicas", extra="cluster")

    def make_app() -> AsgiApp:
        bound_arenas()
        if audit is not None:
            write_audit(audit)
        return create_app(UnClip.load(model, cluster.device), config)

    deployment = ray_serve.deployment(
        name=NAME,
        num_replicas=cluster.num_replicas,
        ray_actor_options={"num_cpus": cluster.cpus_per_replica, "num_gpus": cluster.gpus_per_replica},
        max_ongoing_requests=MAX_ONGOING,
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_timeout_s=GRACE_SECONDS,
        # Its lines have paths, and names of results are secrets.
        logging_config={"enable_access_log": False},
    )
    return deployment(ray_serve.ingress(make_app)()).bind()


def serve_cluster(model: str, config: ServerConfig, cluster: ClusterConfig, host: str, port: int) -> None:
    """Serve by replicas on the Ray cluster at RAY_ADDRESS, or on one started on this machine, until told to stop.

    Raises like `build_cluster`, `OSError` where there is no cluster, and `InputError` where the port is taken or
    replicas cannot come up.
    """
    application = build_cluster(model, config, cluster)
    ray = optional_module("ray", "serving by replicas", extra="cluster")
    ray_serve = optional_module("ray.serve", "serving by replicas", extra="cluster")
    is_local, options = "RAY_ADDRESS" not in os.environ, {}
    if is_local:
        options = {"address": "local", "include_dashboard": False}
        with listen(host, port) as free:
            port = free.getsockname()[1]
    elif port == 0:
        raise InputError("--port 0 is a free port of one machine; give the port that the cluster's machines listen at.")
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        check_room(ray.cluster_resources(), cluster, is_local=is_local)
        logging_config = {"enable_access_log": False, "log_level": "WARNING"}
        ray_serve.start(http_options={"host": host, "port": port}, logging_config=logging_config)
        try:
            ray_serve.run(application, name=NAME, route_prefix="/")
            stopping = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stopping.set())
            say_address(model, host, port, config, has_studio=False)
            # In turns: Python calls a handler in this thread, which a signal to one of Ray's does not wake.
            while not stopping.wait(TURN_SECONDS):
                pass
        finally:
            # Also of a start that failed or was interrupted: the cluster may be used by others.
            ray_serve.delete(NAME)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no replica came up ({reason}); Ray's logs say why.") from None
    finally:
        ray.shutdown()


def check_room(resources: Mapping[str, float], cluster: ClusterConfig, *, is_local: bool) -> None:
    """Raise `InputError` if replicas would wait for ever; a cluster of others may grow, so there it is a note."""
    for name, each in (("CPU", cluster.cpus_per_replica), ("GPU", cluster.gpus_per_replica)):
        if (need := cluster.num_replicas * each) > (present := resources.get(name, 0.0)):
            text = f"{cluster.num_replicas} replicas need {need:g} {name}s, and there are {present:g}"
            if is_local:
                raise InputError(f"{text}; use fewer, or less of it for each.")
            say(f"note: {text}; some wait until the cluster grows")
