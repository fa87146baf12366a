"""Data: the emoji set, its shards, and sets of pictures with captions. Knows no model and no training loop."""

from unclip.data._decode import decode_picture
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
from unclip.data._image_text_set import ImageTextSet, load_shards
from unclip.data._order import Order, batch_indices, epoch_order
from unclip.data._pictures import Item, PictureSet, item_or_next, open_pictures
from unclip.data._rasterize import rasterize
from unclip.data._sample import Sample
from unclip.data._shard_set import ShardSet
from unclip.data._shards import write_emoji_shards, write_shards

__all__ = [
    "DESIGNS",
    "SPLITS",
    "EmbeddedShard",
    "EmbeddingSet",
    "EmojiItem",
    "ImageTextSet",
    "Item",
    "Order",
    "PictureSet",
    "Sample",
    "ShardHeader",
    "ShardSet",
    "TextRow",
    "TextRows",
    "batch_indices",
    "decode_picture",
    "embedding_files",
    "emoji_items",
    "emoji_source",
    "epoch_order",
    "item_or_next",
    "load_shards",
    "open_pictures",
    "rasterize",
    "read_header",
    "read_keys",
    "write_embedding_shard",
    "write_emoji_shards",
    "write_shards",
    "write_statistics",
]
