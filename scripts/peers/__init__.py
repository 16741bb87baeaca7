"""Other packages that `wmkit bench` measures beside: where their Python is, and the programs that it runs.

The files `PACKAGE_BENCH.py` here are run by the peer's Python and use nothing of wmkit but what is beside them:
`serving.py`, and `lewm_side.py` where LeWM is measured.
"""

import os
from pathlib import Path

from wmkit.errors import UserError
from wmkit.timing import Peer, PeerPackage

__all__ = ["PEERS", "PROGRAMS", "open_peer"]

PEERS = {
    "stable-worldmodel": PeerPackage(
        "stable-worldmodel",
        "python3 -m venv PEER && PEER/bin/pip install stable-worldmodel==0.1.1 stable-pretraining transformers einops "
        "hydra-core h5py hdf5plugin imageio imageio-ffmpeg pygame 'pymunk>=7', then --peer-python PEER/bin/python",
    )
}
"""Name -> what it is and how its environment is made."""

PROGRAMS = Path(__file__).resolve().parent
"""Folder of the programs."""

_VARIABLE = "WMKIT_PEER_PYTHON"


def open_peer(name: str, bench: str, python: Path | None) -> Peer:
    """Start a peer's program for one benchmark.

    Args:
        name: one of `PEERS`.
        bench: "plan", "train", "env" or "data".
        python: its interpreter; None takes the environment variable WMKIT_PEER_PYTHON.

    Raises:
        UserError: an unknown peer, or no Python for it.
    """
    if name not in PEERS:
        raise UserError(f"unknown peer {name!r}; known: {', '.join(PEERS)}")
    package = PEERS[name]
    chosen = python or os.environ.get(_VARIABLE)
    if not chosen:
        raise UserError(f"{name} needs a Python of its own: give --peer-python or set {_VARIABLE}. {package.install}")
    return Peer(package, Path(chosen), PROGRAMS / f"{name.replace('-', '_')}_{bench}.py")
