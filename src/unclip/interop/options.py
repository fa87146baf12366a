"""Read the options of third-party configs so that none is ignored by accident.

`Options` takes a section apart option by option; `read_options` compares a config with tables of all options.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from unclip.config import Config
from unclip.errors import ConfigError, did_you_mean

T = TypeVar("T")
Table = Mapping[str, tuple[str, Any]]
"""By our field, their option and its default."""

# Options of transformers configs, of any version, that change no result of a network: training, labels and heads of
# other tasks, generation of text, provenance.
_IDLE_NAMES = """
    architectures model_type transformers_version torch_dtype dtype _name_or_path name_or_path auto_map
    tokenizer_class prefix attn_implementation use_return_dict return_dict output_attentions
    output_hidden_states torchscript use_cache use_bfloat16 chunk_size_feed_forward gradient_checkpointing
    finetuning_task task_specific_params problem_type id2label label2id num_labels classifier_dropout
    is_composition is_encoder_decoder tie_encoder_decoder tie_word_embeddings cross_attention_hidden_size
    decoder_start_token_id decoder bos_token_id eos_token_id pad_token_id sep_token_id forced_bos_token_id
    forced_eos_token_id remove_invalid_values dropout attention_dropout hidden_dropout_prob
    attention_probs_dropout_prob initializer_range initializer_factor logit_scale_init_value max_length
    min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores return_dict_in_generate suppress_tokens begin_suppress_tokens
    exponential_decay_length_penalty tf_legacy_loss
"""
IDLE = frozenset(_IDLE_NAMES.split())


class Options:
    """A section of a config whose options are taken out by name; `finish` refuses the rest."""

    def __init__(self, section: Any, place: str) -> None:
        if not isinstance(section, Mapping):
            raise ConfigError(f"{place} must be a mapping of options; found {type(section).__name__}.")
        self.place = place
        self.untaken: dict[str, Any] = dict(section)
        self._known: set[str] = set()

    def take(self, name: str, default: T) -> T:
        """Take an option, or `default` if it is absent or null."""
        value = self._pop(name)
        if value is None:
            return default
        check_kind(self.place, name, value, default)
        return value

    def need(self, name: str, like: T) -> T:
        """Take an option of the kind of `like`; raises `ConfigError` if it is absent or null."""
        if self.untaken.get(name) is None:
            raise ConfigError(f"{self.place} has no {name!r}, which has no default.")
        return self.take(name, like)

    def side(self, name: str, default: int) -> int:
        """Take an option that is a number of pixels, or two equal ones."""
        self.untaken[name] = one_side(self.place, name, self.untaken.get(name))
        return self.take(name, default)

    def each(self, name: str, default: T, num: int) -> tuple[T, ...]:
        """Take an option for each of `num` things: a list of that many, or one value for all."""
        several = isinstance(self.untaken.get(name), list | tuple)
        values = self.some(name, default) if several else self.some(name, default) * num
        if len(values) != num:
            raise ConfigError(f"{self.place}.{name} has {len(values)} entries; {num} are needed, or one for all.")
        return values

    def some(self, name: str, default: T) -> tuple[T, ...]:
        """Take an option as a tuple: a list of any length, or one value."""
        value = self._pop(name)
        values = tuple(value) if isinstance(value, list | tuple) else (default if value is None else value,)
        for entry in values:
            check_kind(self.place, name, entry, default)
        return values

    def only(self, name: str, allowed: Any, reason: str) -> None:
        """Raise `ConfigError` if an option is not `allowed`, which is also its default."""
        value = self._pop(name)
        if value is not None and value != allowed:
            raise ConfigError(f"{self.place}.{name}={value!r} is not supported ({reason}); only {allowed!r} is.")

    def fields(self, table: Table) -> dict[str, Any]:
        """Take the options of a table, by our fields."""
        return {ours: self.take(theirs, default) for ours, (theirs, default) in table.items()}

    def _pop(self, name: str) -> Any:
        self._known.add(name)
        return self.untaken.pop(name, None)

    def finish(self, ignored: Mapping[str, Iterable[str]]) -> dict[str, str]:
        """Take the `ignored` options, which do not change the network, by the reason; return it for those present.

        Raises `ConfigError` for an option that was not taken.
        """
        reasons = {name: reason for reason, names in ignored.items() for name in names}
        present = {name: reason for name, reason in reasons.items() if self._pop(name) is not None}
        for name in self.untaken:
            raise ConfigError(f"unknown option {self.place}.{name}; {did_you_mean(name, self._known)}")
        return {f"{self.place}.{name}": reason for name, reason in present.items()}


def read_options(
    theirs: Mapping[str, Any], kind: str, fixed: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Read the options of a config of the class `kind`, completed by their library's `defaults`.

    Raises `ConfigError` for an option of `fixed` with another value, for one in neither table, and for a value of
    another kind than the default. Names that start with an underscore are skipped: they say which program wrote the
    config.
    """
    options = {**defaults, **{name: value for name, value in theirs.items() if not name.startswith("_")}}
    if "sample_size" in options:
        options["sample_size"] = one_side(kind, "sample_size", options["sample_size"])
    for name, value in options.items():
        check_kind(kind, name, value, defaults.get(name))
        if name not in fixed and name not in defaults:
            raise ConfigError(
                f"{kind}: option {name}={value!r} is unknown; {did_you_mean(name, {**fixed, **defaults})}"
            )
    require(kind, options, {name: value for name, value in fixed.items() if name in options})
    return options


def fields_of(options: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return the options of a table by our fields."""
    return {ours: options[theirs] for ours, (theirs, _) in table.items()}


def options_of(config: Config, table: Table) -> dict[str, Any]:
    """Return our fields of a table by their options."""
    return {theirs: getattr(config, ours) for ours, (theirs, _) in table.items()}


def check_kind(kind: str, name: str, value: object, default: object) -> None:
    """Raise `ConfigError` for a value of another kind than its default: a list, a truth value, a number or a text.

    A list must not be empty, and its entries must be of the kind of the default's first.
    """
    if isinstance(default, list | tuple):
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError(f"{kind}: {name}={value!r} is not a list, as {default!r} is.")
        for entry in value:
            check_kind(kind, f"{name}, an entry of it", entry, default[0])
        return
    kinds = ((bool, "true or false"), (int, "a whole number"), (int | float, "a number"), (str, "a text"))
    for types, what in kinds:
        if isinstance(default, types):
            if not isinstance(value, types) or (types is not bool and isinstance(value, bool)):
                raise ConfigError(f"{kind}: {name}={value!r} is not {what}, as {default!r} is.")
            return


def one_side(kind: str, name: str, value: object) -> Any:
    """Return the side of a square written as a number, as [side] or as [height, width]; other values as they are.

    Raises `ConfigError` if height and width differ.
    """
    if not isinstance(value, list | tuple) or len(value) not in (1, 2):
        return value
    if value[0] != value[-1]:
        raise ConfigError(f"{kind}: {name}={value!r} is not supported; pictures and patches are square here.")
    return value[0]


def other_options(theirs: Mapping[str, Any], known: Iterable[str], what: str) -> dict[str, str]:
    """Name the options of a transformers config that are neither `known` nor idle, with the reason.

    Options that are off (null, false, empty) are left out.
    """
    others = theirs.keys() - set(known) - IDLE
    reason = f"{what} here has no such option"
    return {f"{name}={theirs[name]!r}": reason for name in sorted(others) if theirs[name] and name[0] != "_"}


def require(kind: str, options: Mapping[str, object], allowed: Mapping[str, object]) -> None:
    """Raise one `ConfigError` for all the options that differ from the one value that is `allowed`."""
    differing = [
        f"{name}={options[name]!r} is not supported; only {value!r} is"
        for name, value in allowed.items()
        if options[name] != value
    ]
    if differing:
        raise ConfigError(f"{kind}: {'; '.join(differing)}.")
