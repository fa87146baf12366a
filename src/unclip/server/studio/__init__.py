"""The studio: a page in the browser for every task that draws, made from the tasks' descriptions. Needs gradio."""

from unclip.server.studio.mount import Spell, StudioMount

__all__ = ["Spell", "StudioMount"]
