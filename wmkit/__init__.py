"""World models and model-predictive control for robotics."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .control.controller import Controller
    from .control.realtime import RealTimeController
    from .monitor.surprise import SurpriseMonitor

__all__ = ["Controller", "RealTimeController", "SurpriseMonitor", "__version__"]
__version__ = "0.1.0"

_LAZY = {
    "Controller": "wmkit.control.controller",
    "RealTimeController": "wmkit.control.realtime",
    "SurpriseMonitor": "wmkit.monitor.surprise",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use: `import wmkit` alone stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module 'wmkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """List the public names, those not yet imported too."""
    return sorted(__all__)
