"""Rollouts and losses as fused Triton kernels for CUDA GPUs; everything here has a reference in plain PyTorch."""

from .support import Unsupported, interpreted, why_not

__all__ = ["Unsupported", "interpreted", "why_not"]
