"""Compile every fused kernel for a GPU that is not here, and print registers, spills and shared memory of each.

    python benchmarks/compile_kernels.py
    python benchmarks/compile_kernels.py --capability 80 --out FILE

Rollouts and losses run at paper size, with every launch replaced by a compilation, so what is compiled is what would be
launched, in each dtype. Triton brings the assembler; no GPU is needed. A kernel that spills much, or takes more
shared memory than the GPU has, is an error.
"""

# pyright: reportMissingImports=false

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
import tyro
from torch import nn
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from wmkit.models.fused import sigreg, support
from wmkit.models.lewm import LeWM, LeWMConfig
from wmkit.provenance import provenance

_SHARED = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that one program may have, by compute capability."""


@dataclass(frozen=True)
class Args:
    """What to compile for.

    Attributes:
        capability: of the GPU, 90 for Hopper, 80 for an A100.
        only: rollouts and losses whose name contains this.
        candidates: of the rollouts, N; they decide the tiles.
        stack: bytes of local memory that a kernel may take, for spilled registers and sine's slow path.
        out: JSON file of the result.
    """

    capability: int = 90
    only: str = ""
    candidates: tuple[int, ...] = (300, 2400)
    stack: int = 64
    out: Path | None = None


class _Driver:
    """A driver of a GPU that is not here."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def pretend(capability: int) -> dict[str, Any]:
    """Make every launch a compilation, and return the dict that the compiled kernels gather in."""
    compiled: dict[str, Any] = {}
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel: Any = run(self, *args, grid=grid, warmup=True, **kwargs)
        compiled[f"{self.fn.__name__}/{kernel.hash[:8]}"] = kernel
        return kernel

    for module in (support, sigreg):
        module.why_not = lambda device: None
    active: Any = _Driver(capability)
    driver.set_active(active)
    JITFunction.run = compile_only  # type: ignore[method-assign]
    return compiled


def usage(kernel: Any) -> dict[str, int]:
    """Return registers, spilled bytes (stack), shared memory, warps and stages of a compiled kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", text)[-1]
    data = kernel.metadata
    return {
        "registers": int(registers),
        "stack": int(stack),
        "shared": int(data.shared),
        "warps": int(data.num_warps),
        "stages": int(data.num_stages),
        "matrix_units": int(kernel.asm["ptx"].count("mma")),
    }


def rollouts(candidates: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """Yield a name and a function that launches, for each predictor, dtype and number of candidates."""
    from wmkit.models.fused.mlp import FusedMLP
    from wmkit.models.fused.recurrent import FusedGRU
    from wmkit.models.fused.transformer import FusedTransformer

    paper = ("transformer", FusedTransformer, 192, 3, {}, {"hidden_size": 2048})
    small = ("mlp", FusedMLP, 32, 2, {"width": 512, "depth": 2}, None)
    recurrent = ("gru", FusedGRU, 32, 2, {"width": 256}, None)
    for name, kind, size, history, options, projector in (paper, small, recurrent):
        model = _model(name, size, history, options, projector)
        for dtype in (torch.float32, torch.bfloat16):
            fused = kind(model.predictor, model.prediction_projector, dtype)
            for count in candidates:
                inputs = torch.randn(1, 1, size), torch.zeros(1, 0, 10), torch.randn(1, count, 5, 10)
                yield f"{name} {str(dtype)[6:]} N={count}", lambda fused=fused, inputs=inputs: fused(*inputs)


def losses() -> Iterator[tuple[str, Any]]:
    """Yield a name and a function that launches the fused statistic, forward and backward, at the paper's size."""
    projected, upstream = torch.randn(512, 1024), torch.ones(())
    coefficients = torch.randn(17, 1024, dtype=torch.complex64)
    yield "sigreg sums", lambda: sigreg.power_sums(projected, 3 / 16, 17)
    yield "sigreg gradient", lambda: sigreg.gradient(coefficients, projected, 3 / 16, upstream)


def _model(name: str, size: int, history: int, options: dict[str, Any], projector: dict[str, int] | None) -> LeWM:
    config = LeWMConfig(
        image_size=16, latent_size=size, action_repeat=5, action_low=(-1, -1), action_high=(1, 1), seconds_per_step=0.5,
        history=history, predictor=name, predictor_options=options, encoder="conv", projector=projector,
    )  # fmt: skip
    model = LeWM(config).eval()
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
    return model


def main(args: Args) -> None:
    """Compile, print, write, and fail where a kernel does not fit."""
    compiled = pretend(args.capability)
    table, bad = {}, []
    for name, launch in [*rollouts(args.candidates), *losses()]:
        if args.only not in name:
            continue
        before = set(compiled)
        with torch.inference_mode():
            launch()
        for key in set(compiled) - before:
            used = usage(compiled[key])
            table[f"{name}: {key.partition('/')[0]}"] = used
            print(f"{name:28} {key:34}", *(f"{what} {number:>6}" for what, number in used.items()), flush=True)
            if used["shared"] > _SHARED[args.capability] or used["stack"] > args.stack:
                bad.append(f"{name}: {key}")
    if args.out is not None:
        args.out.write_text(json.dumps({"capability": args.capability, "kernels": table, "provenance": provenance()}))
    if bad:
        sys.exit(f"these spill, or take more shared memory than there is: {', '.join(bad)}")


if __name__ == "__main__":
    main(tyro.cli(Args))
