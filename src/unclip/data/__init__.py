"""Data: sources of captioned pictures, shards, embeddings, and the emoji set. Knows no model and no training loop."""

from unclip.data._caption_stats import CaptionStats, Spread
from unclip.data._check import CheckConfig, Finding, Report, check
from unclip.data._embedding_layout import TextRow
from unclip.data._embedding_shards import (
    EmbeddedShard,
    ShardHeader,
    embedding_files,
    read_header,
    read_keys,
    write_embedding_shard,
    write_statistics,
)
from unclip.data._embeddings import EmbeddingSet, TextRows
from unclip.data._emoji import DESIGNS, SPLITS, EmojiItem, emoji_items, emoji_source
from unclip.data._fit import PictureFormat, decode_picture, fit_picture
from unclip.data._image_text_set import ImageTextSet, load_shards
from unclip.data._order import Order, epoch_order
from unclip.data._phash import perceptual_hash
from unclip.data._pictures import Item, PictureSet, item_or_next, open_pictures, probe_uncaptioned
from unclip.data._prepare import PrepareConfig, Prepared, prepare
from unclip.data._rasterize import rasterize
from unclip.data._remote import cache_folder
from unclip.data._shard_set import ShardSet
from unclip.data._shards import write_emoji_shards, write_shards
from unclip.data._source import Broken, Sample, Source
from unclip.data._sources import CAPTION_KINDS, open_source
from unclip.data._stats import Stats, stats

__all__ = [
    "CAPTION_KINDS",
    "DESIGNS",
    "SPLITS",
    "Broken",
    "CaptionStats",
    "CheckConfig",
    "EmbeddedShard",
    "EmbeddingSet",
    "EmojiItem",
    "Finding",
    "ImageTextSet",
    "Item",
    "Order",
    "PictureFormat",
    "PictureSet",
    "PrepareConfig",
    "Prepared",
    "Report",
    "Sample",
    "ShardHeader",
    "ShardSet",
    "Source",
    "Spread",
    "Stats",
    "TextRow",
    "TextRows",
    "cache_folder",
    "check",
    "decode_picture",
    "embedding_files",
    "emoji_items",
    "emoji_source",
    "epoch_order",
    "fit_picture",
    "item_or_next",
    "load_shards",
    "open_pictures",
    "open_source",
    "perceptual_hash",
    "prepare",
    "probe_uncaptioned",
    "rasterize",
    "read_header",
    "read_keys",
    "stats",
    "write_embedding_shard",
    "write_emoji_shards",
    "write_shards",
    "write_statistics",
]
