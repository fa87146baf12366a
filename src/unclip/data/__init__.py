"""Read, check and write data sets: sources of captioned pictures, shards, embeddings, and the emoji set."""

from unclip.data.check import CaptionStats, CheckConfig, CheckReport, Finding, Spread, Stats, check, stats
from unclip.data.compositions import Compositions
from unclip.data.duplicates import perceptual_hash
from unclip.data.embed import EmbedReport, embed
from unclip.data.embed_ray import embed_on_ray
from unclip.data.embedding_shards import (
    EmbeddedShard,
    ShardHeader,
    TextRow,
    embedding_files,
    read_header,
    read_keys,
    write_embedding_shard,
    write_statistics,
)
from unclip.data.embeddings import EmbeddingSet, TextRows
from unclip.data.emoji import (
    DESIGNS,
    SPLITS,
    EmojiItem,
    emoji_items,
    emoji_phrases,
    emoji_source,
    rasterize,
)
from unclip.data.emoji_shards import write_emoji_shards, write_shards
from unclip.data.filter import FilterConfig, Filtered, Removed, filter_samples
from unclip.data.groups import read_groups
from unclip.data.opt_out import OptOut
from unclip.data.order import BalancedOrder, Order, epoch_order
from unclip.data.pictures import (
    ImageTextSet,
    Item,
    PictureSet,
    decode_picture,
    item_or_next,
    load_shards,
    open_pictures,
    probe_uncaptioned,
)
from unclip.data.prepare import PictureFormat, PrepareConfig, Prepared, fit_picture, prepare
from unclip.data.shard_set import ShardSet
from unclip.data.sources.base import Broken, Sample, Source
from unclip.data.sources.open import CAPTION_KINDS, open_source
from unclip.data.store import cache_beside, cache_folder

__all__ = [
    "CAPTION_KINDS",
    "DESIGNS",
    "SPLITS",
    "BalancedOrder",
    "Broken",
    "CaptionStats",
    "CheckConfig",
    "CheckReport",
    "Compositions",
    "EmbedReport",
    "EmbeddedShard",
    "EmbeddingSet",
    "EmojiItem",
    "FilterConfig",
    "Filtered",
    "Finding",
    "ImageTextSet",
    "Item",
    "OptOut",
    "Order",
    "PictureFormat",
    "PictureSet",
    "PrepareConfig",
    "Prepared",
    "Removed",
    "Sample",
    "ShardHeader",
    "ShardSet",
    "Source",
    "Spread",
    "Stats",
    "TextRow",
    "TextRows",
    "cache_beside",
    "cache_folder",
    "check",
    "decode_picture",
    "embed",
    "embed_on_ray",
    "embedding_files",
    "emoji_items",
    "emoji_phrases",
    "emoji_source",
    "epoch_order",
    "filter_samples",
    "fit_picture",
    "item_or_next",
    "load_shards",
    "open_pictures",
    "open_source",
    "perceptual_hash",
    "prepare",
    "probe_uncaptioned",
    "rasterize",
    "read_groups",
    "read_header",
    "read_keys",
    "stats",
    "write_embedding_shard",
    "write_emoji_shards",
    "write_shards",
    "write_statistics",
]
