"""The control loop: observation in, action out."""

from .advance import advance, extend
from .controller import Controller

__all__ = ["Controller", "advance", "extend"]
