"""Serve a model over HTTP: the images API, and a route for every task. Needs the extra `serve`."""

from unclip.server.app import create_app
from unclip.server.cluster import ClusterConfig, build_cluster, serve_cluster
from unclip.server.config import KeyLimits, ServerConfig, read_key_limits
from unclip.server.policy import Policy, PolicyError
from unclip.server.run import listen, serve
from unclip.server.studio import Spell

__all__ = [
    "ClusterConfig",
    "KeyLimits",
    "Policy",
    "PolicyError",
    "ServerConfig",
    "Spell",
    "build_cluster",
    "create_app",
    "listen",
    "read_key_limits",
    "serve",
    "serve_cluster",
]
