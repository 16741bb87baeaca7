"""Random numbers that depend on what they are for, not on what was drawn before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["derive_seed", "device_generator", "isolated_random_state", "seed_global"]


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that is a hash of `parts`, e.g. the run's seed, the stage's name and the step."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def device_generator(generator: torch.Generator, device: torch.device | str) -> torch.Generator:
    """Return a generator on `device`, seeded with one draw from `generator`; the same one where the device is equal."""
    if generator.device.type == torch.device(device).type:
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator(device=device).manual_seed(int(seed))


def seed_global(seed: int) -> None:
    """Seed the generators that dropout draws from: the CPU's and, where CUDA is in use, the current device's."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


@contextmanager
def isolated_random_state() -> Iterator[None]:
    """Give the global generators back as they were, whatever is seeded or drawn inside."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield
