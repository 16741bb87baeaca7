"""Time the products of LeWM's predictor on this CPU: PyTorch's `linear` beside `PackedLinear`.

    python benchmarks/packed_linear.py --out benchmarks/results/packed_linear.json

The shapes are those of a block of the paper's predictor, for 300 and 900 rows: one and three tokens of 300 candidates.
"""

# pyright: reportMissingImports=false

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor
from torch.nn.functional import linear

from wmkit.models.packed import PackedLinear
from wmkit.provenance import provenance

_SHAPES = {
    "query, key, value": (192, 3072),
    "attention out": (1024, 192),
    "mlp in": (192, 2048),
    "mlp out": (2048, 192),
}


@dataclass(frozen=True)
class Args:
    """What to time.

    Attributes:
        threads: of torch.
        rounds: medians are over so many.
        out: JSON file of the result.
    """

    threads: int = 2
    rounds: int = 7
    out: Path | None = None


def gflops(product: Callable[[Tensor], Tensor], x: Tensor, work: float, rounds: int) -> float:
    """Return GFLOP/s of a product of `work` operations, the median over rounds of 20 calls."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(20):
            product(x)
        seconds.append((time.perf_counter() - start) / 20)
    return work / statistics.median(seconds[1:]) / 1e9


@torch.inference_mode()
def measure(args: Args) -> list[dict[str, Any]]:
    """Return one row for each shape, number of rows and dtype."""
    torch.manual_seed(0)
    table = []
    for dtype in (torch.float32, torch.bfloat16):
        for name, (inputs, outputs) in _SHAPES.items():
            weight, bias = torch.randn(outputs, inputs).to(dtype), torch.randn(outputs).to(dtype)
            packed = PackedLinear(weight, bias)
            for rows in (300, 900):
                x, work = torch.randn(rows, inputs).to(dtype), 2.0 * rows * inputs * outputs
                row: dict[str, Any] = {"layer": name, "rows": rows, "dtype": str(dtype).removeprefix("torch.")}
                row["linear"] = gflops(lambda x, w=weight, b=bias: linear(x, w, b), x, work, args.rounds)
                row["packed"] = gflops(packed, x, work, args.rounds)
                table.append(row)
                print(
                    f"{name:20}{rows:5}{row['dtype']:>10}{row['linear']:8.0f}{row['packed']:8.0f} GFLOP/s", flush=True
                )
    return table


def main(args: Args) -> None:
    """Measure, print and write."""
    torch.set_num_threads(args.threads)
    result = {"threads": args.threads, "gflops": measure(args), "provenance": provenance()}
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Args))
