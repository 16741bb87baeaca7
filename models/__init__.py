"""World models."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .autoregressive import AutoregressiveDynamics
    from .diffusion import DiffusionDynamics
    from .ensemble import Ensemble
    from .lewm import LeWM, LeWMConfig, SIGReg
    from .sequence import SequenceConfig
    from .simulator import SimulatorModel

__all__ = [
    "AutoregressiveDynamics",
    "DiffusionDynamics",
    "Ensemble",
    "LeWM",
    "LeWMConfig",
    "SIGReg",
    "SequenceConfig",
    "SimulatorModel",
]

_LAZY = {
    "AutoregressiveDynamics": ".autoregressive",
    "DiffusionDynamics": ".diffusion",
    "Ensemble": ".ensemble",
    "LeWM": ".lewm",
    "LeWMConfig": ".lewm",
    "SIGReg": ".lewm",
    "SequenceConfig": ".sequence",
    "SimulatorModel": ".simulator",
}


def __getattr__(name: str) -> Any:
    """Import models on first use: `import wmkit.models` alone stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name], __name__), name)


def __dir__() -> list[str]:
    """List the public names, those not yet imported too."""
    return sorted(__all__)
