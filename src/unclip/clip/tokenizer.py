"""CLIP's tokenizer: byte-pair encoding as OpenAI does it, read from files or learned from texts."""

import gzip
import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import tokenizers
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from unclip.clip.model import token_mask
from unclip.errors import CheckpointError, InputError
from unclip.files import atomic_write
from unclip.shapes import TokenIds, TokenMask

Pair = tuple[str, str]

# OpenAI's list, cut to the part that CLIP uses; see NOTICE.
VOCABULARY = Path(__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
NUM_MERGES = 48894
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
PAD_ID = 0
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""OpenAI's words: specials, English contractions, runs of letters, single digits, runs of the rest."""


class TokenBatch(NamedTuple):
    """Prompts as token ids."""

    ids: TokenIds
    """(batch, context_length) start, tokens, end, then padding."""
    mask: TokenMask
    """True from the start token to the first end token."""
    cut: list[str]
    """The end of each prompt that did not fit; "" where all of it did."""


class Tokenizer:
    """Text to token ids, as OpenAI's CLIP does it: NFC, lower case, byte-level BPE with a mark at the end of a word."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Wrap a `tokenizers.Tokenizer`; raises CheckpointError when it lacks CLIP's start and end tokens."""
        start, end = backend.token_to_id(START), backend.token_to_id(END)
        if start is None or end is None:
            raise CheckpointError(
                f"this is not a CLIP tokenizer: {START} or {END} is missing; use the one CLIP was trained with."
            )
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.start_token, self.end_token = int(start), int(end)
        self.vocab_size = backend.get_vocab_size()

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a `tokenizer.json`; raises CheckpointError when it is missing or is not one."""
        return cls(read_backend(path))

    @classmethod
    def from_vocab_and_merges(cls, vocab: str | Path, merges: str | Path) -> "Tokenizer":
        """Read OpenAI's `vocab.json` and `merges.txt`; raises CheckpointError when they cannot be used."""
        return cls(_parse(merges, lambda: _backend(json.loads(_read(vocab)), _read_merges(merges))))

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Tokenizer":
        """Read `tokenizer.json`, or else `vocab.json` and `merges.txt`, out of a folder of `transformers`."""
        return cls(_parse(folder, lambda: _read_folder(Path(folder))))

    @classmethod
    def openai(cls, path: str | Path = VOCABULARY) -> "Tokenizer":
        """Read OpenAI's own, as shipped here or from their `bpe_simple_vocab_16e6.txt.gz`."""
        return cls(_parse(path, lambda: _from_merges(_read_merges(path)[:NUM_MERGES])))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn merges from `texts` and lay out `vocab_size` ids as OpenAI did.

        Their order is: bytes, bytes that end a word, merges, start, end. As every byte has an id in both forms, any
        string can be encoded. Raises InputError when `vocab_size` is below 514 or above what the texts yield.
        """
        smallest = len(_byte_tokens()) + 2
        if vocab_size < smallest:
            raise InputError(f"vocab_size={vocab_size} is too small: bytes and specials take {smallest}; use more.")
        merges = _learn_merges(texts, vocab_size)[: vocab_size - smallest]
        if vocab_size > (largest := smallest + len(merges)):
            raise InputError(f"vocab_size={vocab_size} is more than these texts yield; use at most {largest}.")
        return cls(_from_merges(merges))

    @classmethod
    def largest_vocab_size(cls, texts: Iterable[str], limit: int) -> int:
        """Return the largest vocabulary that `train` can make of `texts`, up to `limit`."""
        return min(limit, len(_byte_tokens()) + 2 + len(_learn_merges(texts, limit)))

    def to_json(self) -> str:
        """Return the content of its `tokenizer.json`."""
        return self._backend.to_str(pretty=True)

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` atomically."""
        atomic_write(path, self.to_json())

    def vocab_and_merges(self) -> tuple[dict[str, int], list[Pair]]:
        """Return the content of OpenAI's `vocab.json`, in the order of the ids, and of `merges.txt`."""
        model = json.loads(self._backend.to_str())["model"]
        vocab = dict(sorted(self._backend.get_vocab().items(), key=lambda item: item[1]))
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        return vocab, [(first, second) for first, second in pairs]

    def encode(self, prompts: Sequence[str], context_length: int) -> TokenBatch:
        """Encode prompts as ids, each cut to `context_length` tokens with start and end, then padded with zeros."""
        batch = encode_prompts(self._backend, prompts, context_length, self.start_token, self.end_token, PAD_ID)
        return batch._replace(mask=token_mask(batch.ids, self.end_token))


def encode_prompts(
    backend: tokenizers.Tokenizer, prompts: Sequence[str], context_length: int, start: int, end: int, pad: int
) -> TokenBatch:
    """Encode as start, tokens up to the context length, end, padding; the mask is True before the padding."""
    if isinstance(prompts, str):
        raise InputError(f"prompts must be a list of texts, found the text {prompts!r}; give [{prompts!r}].")
    # A lone surrogate, as an undecodable byte of a command line becomes, is not text to `tokenizers`.
    texts = [prompt.encode(errors="replace").decode() for prompt in prompts]
    encodings = backend.encode_batch(texts, add_special_tokens=False)
    room = context_length - 2
    rows = [[start, *encoding.ids[:room], end] for encoding in encodings]
    padded = [row + [pad] * (context_length - len(row)) for row in rows]
    ids = torch.tensor(padded, dtype=torch.int64).view(len(rows), context_length)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    cut = [
        text[encoding.offsets[room][0] :].strip() if len(encoding.ids) > room else ""
        for text, encoding in zip(texts, encodings, strict=True)
    ]
    return TokenBatch(ids, torch.arange(context_length) < lengths[:, None], cut)


def read_backend(path: str | Path) -> tokenizers.Tokenizer:
    """Read a `tokenizer.json`; raises CheckpointError when it is missing or is not one."""
    return _parse(path, lambda: tokenizers.Tokenizer.from_str(_read(path)))


# In transformers the padding token is special anywhere in a text; Karlo's is "!", as its id is 0.
def _read_folder(folder: Path) -> tokenizers.Tokenizer:
    if (folder / "tokenizer.json").exists():
        backend = tokenizers.Tokenizer.from_str(_read(folder / "tokenizer.json"))
    else:
        backend = _backend(json.loads(_read(folder / "vocab.json")), _read_merges(folder / "merges.txt"))
    for path in (folder / "special_tokens_map.json", folder / "tokenizer_config.json"):
        padding = json.loads(_read(path)).get("pad_token") if path.exists() else None
        if padding is not None:
            backend.add_special_tokens([padding["content"] if isinstance(padding, dict) else padding])
    return backend


def _read_merges(path: str | Path) -> list[Pair]:
    pairs = [line.split() for line in _read(path).split("\n") if line and "#version:" not in line]
    return [(first, second) for first, second in pairs]


def _read(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); give a tokenizer file.") from None
    return (gzip.decompress(content) if Path(path).suffix == ".gz" else content).decode()


def _parse(path: str | Path, parse: Callable[[], tokenizers.Tokenizer]) -> tokenizers.Tokenizer:
    try:
        return parse()
    except CheckpointError:
        raise
    except Exception as error:  # tokenizers raises nothing narrower
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} does not hold a tokenizer ({reason}); fetch it again.") from None


def _byte_tokens() -> list[str]:
    """List the 256 bytes as OpenAI's printable characters, in its order, then the same at the end of a word."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*symbols, *(symbol + WORD_END for symbol in symbols)]


def _from_merges(merges: list[Pair]) -> tokenizers.Tokenizer:
    """Number tokens in OpenAI's order: bytes, merges, start, end."""
    tokens = [*_byte_tokens(), *(first + second for first, second in merges), START, END]
    return _backend({token: index for index, token in enumerate(tokens)}, merges)


def _backend(vocab: dict[str, int], merges: list[Pair]) -> tokenizers.Tokenizer:
    """Build CLIP's pipeline around a BPE vocabulary."""
    model = models.BPE(vocab=vocab, merges=merges, unk_token=END, end_of_word_suffix=WORD_END)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    if START in vocab and END in vocab:
        backend.add_special_tokens([START, END])
        backend.post_processor = processors.RobertaProcessing(
            (END, vocab[END]), (START, vocab[START]), trim_offsets=False, add_prefix_space=False
        )
    return backend


def _learn_merges(texts: Iterable[str], num_tokens: int) -> list[Pair]:
    """Learn merges that each make a new token, most frequent first."""
    backend = _backend({END: 0}, [])
    words: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
            words[(*word[:-1], word[-1] + WORD_END)] += 1
    merges: dict[str, Pair] = {}
    for first, second in learn_merges(words, num_tokens):
        merges.setdefault(first + second, (first, second))
    return list(merges.values())


# The trainer of `tokenizers` breaks ties at random; this one gives the same merges in every run.
# Byte-pair encoding, Sennrich et al. 2016, algorithm 1, with counts kept up to date instead of taken anew.
def learn_merges(words: Mapping[tuple[str, ...], int], num_merges: int) -> list[Pair]:
    """Learn at most `num_merges` pairs, most frequent first, ties in alphabetical order."""
    spelled = [list(word) for word in words]
    frequency = list(words.values())
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(spelled):
        for pair in pairwise(word):
            counts[pair] += frequency[index]
            places[pair].add(index)
    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)
    merges: list[Pair] = []
    while queue and len(merges) < num_merges:
        count, best = heapq.heappop(queue)
        if -count != counts[best]:
            continue  # an old entry: the count has changed since
        if -count < 1:
            break
        merges.append(best)
        changed: set[Pair] = set()
        for index in places.pop(best):
            _count(spelled[index], -frequency[index], counts, changed)
            spelled[index] = merge(spelled[index], best)
            _count(spelled[index], frequency[index], counts, changed)
            for pair in pairwise(spelled[index]):
                places[pair].add(index)
        for pair in sorted(changed):
            heapq.heappush(queue, (-counts[pair], pair))
    return merges


def merge(word: list[str], pair: Pair) -> list[str]:
    """Join each occurrence of `pair` in `word`, from the left, to one symbol."""
    merged: list[str] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def _count(word: list[str], frequency: int, counts: Counter[Pair], changed: set[Pair]) -> None:
    for pair in pairwise(word):
        counts[pair] += frequency
        changed.add(pair)
