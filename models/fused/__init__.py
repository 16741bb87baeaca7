"""Rollouts and losses as fused Triton kernels for CUDA GPUs; everything here has a reference in plain PyTorch.

Products of float32 take three passes of the matrix units in tf32 ("tf32x3"), whose error is near float32's; those of
bfloat16 take one, summed in float32.
"""

from .support import Unsupported, interpreted, why_not

__all__ = ["Unsupported", "interpreted", "why_not"]
