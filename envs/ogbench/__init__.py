"""OGBench's cube (cube-single), for comparison with the world-model papers; needs the extra `ogbench`.

The simulation, the actions, the pictures and the success are OGBench's own (Park, Frans, Eysenbach and Levine, 2025,
"OGBench: Benchmarking Offline Goal-Conditioned RL"); starts, goals and batches are as in wmkit's other environments.
`state` documents the state, `CubeExpert` is OGBench's scripted oracle.
"""

from .env import OGBenchCubeEnv, OGBenchCubeVectorEnv
from .expert import CubeExpert
from .scenes import VARIATIONS
from .state import is_success

__all__ = ["VARIATIONS", "CubeExpert", "OGBenchCubeEnv", "OGBenchCubeVectorEnv", "is_success"]
