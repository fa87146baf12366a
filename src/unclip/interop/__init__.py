"""Foreign weights as native ones: names, layouts and configurations of other libraries. Knows no pipeline."""

from unclip.interop.foreign import ForeignModel, ForeignNetwork
from unclip.interop.recognise import import_foreign
from unclip.interop.unclip_export import export_unclip

__all__ = ["ForeignModel", "ForeignNetwork", "export_unclip", "import_foreign"]
