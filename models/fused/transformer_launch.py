"""How the transformer's kernels are launched: rows and splits, warps and stages."""

from dataclasses import dataclass

import torch

from .tiles import wide

__all__ = ["MOST_SPLITS", "Machine"]

MOST_SPLITS = 8
"""Slabs at most: each is written and read once for every row."""

_WGMMA = 9
"""Major compute capability from which 64 rows are multiplied at a time, operands staying in shared memory."""


@dataclass(frozen=True)
class Machine:
    """A GPU, and the type of the operands on it.

    Attributes:
        processors: multiprocessors.
        shared_memory: bytes that one program may have.
        generation: major compute capability.
        dtype: float32 or bfloat16.
        lines: rows of a program that only sums and normalises; a few, as such programs wait for memory.
    """

    processors: int
    shared_memory: int
    generation: int
    dtype: torch.dtype
    lines: int = 4

    @classmethod
    def of(cls, device: torch.device, dtype: torch.dtype) -> "Machine":
        """Return that of a device; the CPU, which interprets, passes for a very small GPU."""
        if device.type != "cuda":
            return cls(2, 232448, _WGMMA, dtype, lines=32)
        found = torch.cuda.get_device_properties(device)
        return cls(
            found.multi_processor_count,
            getattr(found, "shared_memory_per_block_optin", 101376),
            found.major,
            dtype,
        )

    @property
    def narrow(self) -> bool:
        """Whether operands are bfloat16, and tensor cores multiply them."""
        return self.dtype == torch.bfloat16

    def is_filled(self, rows: int) -> bool:
        """Return whether this many tokens keep the GPU busy, so that work saved is time saved."""
        return not self.narrow or rows > 64 * self.processors

    def tile(self, candidates: int, window: int) -> int:
        """Return the rows of a program: the most of 16, 32, 64 whose programs occupy half the multiprocessors.

        Every tile reads all weights, so few large ones read less. 64 are for GPUs that keep operands in shared memory;
        elsewhere, and in float32, their registers would spill.

        Args:
            candidates: whose rows stay together.
            window: rows of a candidate.
        """
        tile = 64 if self.narrow and self.generation >= _WGMMA else 32
        least = wide(window)
        while tile > least and 2 * MOST_SPLITS * -(-candidates // (tile // window)) < self.processors:
            tile //= 2
        return max(tile, least)

    def row_tile(self, rows: int, columns: int) -> int:
        """Return the rows of a program where no rows belong together, of an MLP with inputs and outputs of `columns`.

        128 where these still occupy all multiprocessors and their sums stay in registers: half the reading of weights.
        """
        large = 128
        if self.narrow and self.generation >= _WGMMA and columns <= 192 and rows >= large * self.processors:
            return large
        return self.tile(rows, 1)

    def divide(self, tiles: int, work: int) -> tuple[int, int]:
        """Return how many of `work` heads or chunks a split takes, and how many splits there are.

        As many as give three quarters of the multiprocessors a program, 8 at most; fewer where those would not all take
        the same.
        """
        splits = 1
        while splits < MOST_SPLITS and 4 * tiles * splits < 3 * self.processors:
            splits *= 2
        per_split = next(part for part in range(-(-work // splits), work + 1) if work % part == 0)
        return per_split, work // per_split

    def options(self, tile: int, stage: int, fixed: int) -> dict[str, int]:
        """Return warps and pipeline stages of a program.

        Args:
            tile: its rows.
            stage: operands of one iteration, which are loaded that many iterations ahead.
            fixed: operands in shared memory besides.
        """
        left = 0.85 * self.shared_memory / self.dtype.itemsize - fixed
        stages = max(1, min(3 if self.narrow else 2, int(left // stage)))
        return {"num_warps": 8 if tile > 32 or not self.narrow else 4, "num_stages": stages}
