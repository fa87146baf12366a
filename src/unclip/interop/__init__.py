"""Foreign weights as native ones: names, layouts and configurations of other libraries. Knows no pipeline."""

from unclip.interop.foreign import ForeignModel
from unclip.interop.unclip_export import export_unclip
from unclip.interop.unclip_folder import import_unclip

__all__ = ["ForeignModel", "export_unclip", "import_unclip"]
