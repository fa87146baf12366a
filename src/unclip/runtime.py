"""Choose devices and number formats, and make random generators; nothing is set globally."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unclip.errors import InputError


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device `name`; "auto" is the first available of cuda, mps, cpu. Raises `InputError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Read back: "meta" makes tensors, but keeps no numbers. A device of another package raises ImportError.
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError, ImportError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); use auto, cpu, cuda or mps.") from None
    return device


def inference_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device multiplies it natively, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        # oneDNN also takes it with AVX-512 alone, which emulates it: slowly, and with bits that depend on the threads.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        is_fast = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if native and is_fast else torch.float32
    return torch.float32


def encoder_dtype(device: torch.device) -> torch.dtype:
    """Return the number format of text and image encoders when drawing: float64 if the device has it, else float32.

    One pass a picture costs little, and the whole picture depends on these numbers. float64 products are the same in
    every host process, which may have switched those of float32 to bfloat16 or TF32.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def at_least_float32(x: Tensor) -> Tensor:
    """Convert `x` to float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return autocast to `dtype` on `device`; a context that does nothing for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


class _WithoutNoise(TorchFunctionMode):
    """Draw no normal numbers: the meta device keeps none, and there they import torch's compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.init.normal_ and kwargs:  # It passes its own arguments on by name.
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[None]:
    """Build networks without memory and without numbers, to be filled, in a second less."""
    with torch.device("meta"), _WithoutNoise():
        yield


def seeded(*parts: int) -> torch.Generator:
    """Make a CPU generator whose stream depends on all `parts` (each in [0, 2^63)), for example (seed, rank, step)."""
    state = 0
    for part in parts:
        # splitmix64: neighbouring seeds give unrelated streams.
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return seeded_generator(state & 0x7FFFFFFFFFFFFFFF)


def seeded_generator(seed: int) -> torch.Generator:
    """Make a CPU generator that uses every bit of `seed` in [0, 2^64); below 2^32 it is torch's own of that seed.

    torch's Mersenne twister is seeded with the lower 32 bits alone, so that seeds equal modulo 2^32 share a stream.
    Larger seeds fill its state from a hash of the whole number.
    """
    generator = torch.Generator().manual_seed(seed)
    if seed < 2**32:
        return generator
    twister = np.random.MT19937(np.random.SeedSequence(seed)).state
    state = generator.get_state()
    # Behind the seed (8 bytes), two flags (4 each) and a position (8) lie 624 words of 32 bits, each in 8 bytes.
    state[24 : 24 + 624 * 8] = torch.from_numpy(twister["state"]["key"].astype("<u8").view(np.uint8))
    return generator.set_state(state)


@contextmanager
def forked_random_state(seed: int) -> Iterator[None]:
    """Seed torch's own random state (weight initialisation, dropout) inside the block and restore it afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.set_state(seeded_generator(seed).get_state())
        if devices:
            torch.cuda.manual_seed(seed)
        yield


class NoiseSource:
    """Standard normal noise with one generator per sample, so a sample does not depend on its batch.

    Numbers are drawn on the CPU in float32 and moved afterwards: a seed means the same noise on every device.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = tuple(generators)

    @classmethod
    def from_seeds(cls, seeds: Sequence[int]) -> "NoiseSource":
        """Make one generator per seed, each seeded by that number alone."""
        return cls([seeded_generator(seed) for seed in seeds])

    @classmethod
    def from_states(cls, states: UInt8[Tensor, "batch state"]) -> "NoiseSource":
        """Make generators that continue from `states`; raises `InputError` for an invalid state."""
        generators = [torch.Generator() for _ in states]
        try:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state.clone())
        except RuntimeError as error:
            raise InputError(f"this is not the state of a random generator: {str(error).splitlines()[0]}.") from None
        return cls(generators)

    @property
    def states(self) -> UInt8[Tensor, "batch state"]:
        """Return the states of the generators, a row each, as `from_states` takes them."""
        return torch.stack([generator.get_state() for generator in self.generators])

    def __len__(self) -> int:
        return len(self.generators)

    def copy(self) -> "NoiseSource":
        """Return an independent source that continues with the same numbers."""
        return NoiseSource([generator.clone_state() for generator in self.generators])

    def __call__(
        self, shape: Sequence[int], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Draw noise of shape (batch, *shape), where `shape` is that of one sample."""
        draws = [torch.randn((1, *shape), generator=generator) for generator in self.generators]
        return torch.cat(draws).to(device=device, dtype=dtype)
