"""Tiny real models for tests, of this package and of programs that use it. Knows every stage; trains nothing."""

from unclip.testing.tiny import TINY_TEXTS, tiny_model, tiny_pipeline, tiny_tokenizer

__all__ = ["TINY_TEXTS", "tiny_model", "tiny_pipeline", "tiny_tokenizer"]
