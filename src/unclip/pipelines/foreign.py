"""Foreign models as models of ours, and ours as foreign ones. Knows folders on both sides; the rest is `interop`'s."""

from collections.abc import Sequence
from pathlib import Path

from unclip.checkpoint import NetworkWeights
from unclip.clip import Tokenizer
from unclip.errors import CheckpointError, ConfigError
from unclip.interop import ForeignModel, export_unclip
from unclip.pipelines.folder import AnyTokenizer, Defaults, ModelSource
from unclip.pipelines.prior_stage import X0_BOUND as PRIOR_BOUND
from unclip.pipelines.settings import StageSettings

__all__ = ["export_diffusers", "join_foreign"]


def join_foreign(name: str, models: Sequence[ForeignModel]) -> ModelSource:
    """One model of the stages of several, none of which may come twice; raises `CheckpointError` naming the first."""
    networks: dict[str, NetworkWeights] = {}
    tokenizers: dict[str, AnyTokenizer] = {}
    stages: dict[str, StageSettings] = {}
    for model in models:
        for stage, weights in model.stages.items():
            if stage in networks:
                raise CheckpointError(
                    f"{stage} is there twice: in {networks[stage].source} and in {weights.source}; give one of them."
                )
            networks[stage] = weights
        tokenizers |= model.tokenizers
        stages |= {stage: StageSettings(**settings) for stage, settings in model.sampling.items()}
    # Nobody else draws several embeddings to choose from.
    return ModelSource(name, networks, tokenizers, Defaults(num_candidates=1, stages=stages))


def export_diffusers(source: ModelSource, folder: Path) -> dict[str, str]:
    """Write a diffusers unCLIP folder; returns what it cannot hold, with reasons. Raises like `export_unclip`."""
    missing = [stage for stage in ("clip", "decoder") if stage not in source.networks]
    if missing:
        raise ConfigError(
            f"the model {source.name!r} has no {' and no '.join(missing)}, which diffusers' folders need."
        )
    bounds = {
        stage: settings.x0_bound or (PRIOR_BOUND if stage == "prior" else 1.0)
        for stage, settings in source.defaults.stages.items()
    }
    tokenizer = source.tokenizers["clip"]
    assert isinstance(tokenizer, Tokenizer), f"CLIP reads the ids of a {type(tokenizer).__name__}"
    return export_unclip(source.networks, tokenizer, bounds, folder)
