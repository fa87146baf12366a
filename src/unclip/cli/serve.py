"""The command that serves a model over HTTP."""

from functools import partial
from typing import Annotated

from typer import Option

from unclip.cli.options import Device, ModelName


def serve(
    model: ModelName = "emoji",
    host: Annotated[str, Option(help="The address to listen at; 0.0.0.0 is all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, Option(help="The port to listen at; 0 is any free one.", min=0, max=65535)] = 8000,
    api_key: Annotated[
        list[str] | None,
        Option(help="A key that requests have to bring; several: each sees its own results.", envvar="UNCLIP_API_KEY"),
    ] = None,
    keys: Annotated[str | None, Option(help="TOML file with a table for each further key, and its limits.")] = None,
    store: Annotated[str, Option(help="Folder of results and of the history.")] = "unclip-server",
    database: Annotated[str | None, Option(help="URL of the history for SQLAlchemy; else SQLite in the store.")] = None,
    lifetime: Annotated[float, Option(help="Hours after which results are removed.")] = 24.0,
    queue: Annotated[int, Option(help="Requests that may wait; one more is refused.")] = 32,
    batch: Annotated[int, Option(help="Pictures of requests with the same settings that share a pass.")] = 8,
    rate: Annotated[int | None, Option(help="Requests of each key in a minute; else any number.")] = None,
    max_pixels: Annotated[int, Option(help="Pixels of a picture that is sent, or asked for.")] = 2**24,
    max_steps: Annotated[int, Option(help="Steps of a stage that a request may ask for.")] = 1000,
    safety: Annotated[
        str, Option(help="What is refused, and how files are marked: default, strict, a TOML file, or off.")
    ] = "default",
    audit: Annotated[str | None, Option(help="File for a line about each request, without its content.")] = None,
    audit_texts: Annotated[
        bool, Option("--audit-texts", help="Write the texts of each request into the audit, too.")
    ] = False,
    timeout: Annotated[float, Option(help="Seconds that a request may take, with its wait.")] = 600.0,
    no_studio: Annotated[bool, Option("--no-studio", help="Serve the API alone, without the page at /.")] = False,
    device: Device = "auto",
    replicas: Annotated[
        int | None, Option(help="Serve by this many replicas on Ray (RAY_ADDRESS, else this machine).", min=1)
    ] = None,
    cpus: Annotated[float, Option(help="CPUs, and threads, of each of Ray's replicas.")] = 1.0,
    gpus: Annotated[float, Option(help="GPUs of each of Ray's replicas.")] = 0.0,
) -> None:
    """Serve a model over HTTP: the images API that programs for DALL-E speak, every task, and a studio at /."""
    from unclip.errors import InputError, optional_module

    optional_module("fastapi", "unclip serve", "serve")
    from unclip.cli.spelling import spell
    from unclip.config import load_config
    from unclip.pipelines import UnClip
    from unclip.server import ClusterConfig, ServerConfig, listen, read_key_limits, serve_cluster
    from unclip.server import serve as run_server

    if audit_texts and audit is None:
        raise InputError("--audit-texts needs the file that they go to; give --audit FILE.")
    settings = {
        "store": store, "api_keys": tuple(api_key or ()), "database": database, "lifetime_hours": lifetime,
        "queue_length": queue, "requests_per_minute": rate, "max_batch": batch, "timeout_seconds": timeout,
        "max_pixels": max_pixels, "max_steps": max_steps, "audit_texts": audit_texts, "safety": safety,
        "key_limits": {} if keys is None else read_key_limits(keys),
    }  # fmt: skip
    config = load_config(ServerConfig, settings)
    if replicas is None:
        # First of all: a model may take long to load.
        with listen(host, port) as listening:
            studio = None if no_studio else partial(spell, model)
            run_server(UnClip.load(model, device, safety=safety), config, listening, audit, studio)
        return
    sizes = {"num_replicas": replicas, "cpus_per_replica": cpus, "gpus_per_replica": gpus}
    cluster = load_config(ClusterConfig, sizes | {"device": device, "audit": audit})
    serve_cluster(model, config, cluster, host, port)
