"""Recognise, read and write third-party weights."""

from unclip.interop.recognise import import_foreign, needed_weights
from unclip.interop.rules import ForeignModel, ForeignNetwork
from unclip.interop.sources import ForeignFile, open_weights
from unclip.interop.unclip_export import export_unclip, unclip_obstacles

__all__ = [
    "ForeignFile",
    "ForeignModel",
    "ForeignNetwork",
    "export_unclip",
    "import_foreign",
    "needed_weights",
    "open_weights",
    "unclip_obstacles",
]
