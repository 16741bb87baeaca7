"""What the peer's programs around stable-worldmodel's LeWM share; run by a Python that has stable-worldmodel 0.1.1."""

import contextlib
import importlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["LeWMSide", "config_of", "normalise"]

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_PACKAGES = ("stable-worldmodel", "stable-pretraining", "transformers", "torch")


class LeWMSide:
    """One model on a device, and its configuration."""

    def __init__(self) -> None:
        importlib.import_module("stable_worldmodel")
        self.torch = importlib.import_module("torch")
        self.device = "cpu"
        self.config: dict[str, Any] = {}
        self.model: Any = None

    def start(self, device: str, threads: int | None) -> None:
        """Take a device and so many threads; raises ValueError for a device that is not there."""
        if threads is not None:
            self.torch.set_num_threads(threads)
        if device != "cpu" and not self.torch.cuda.is_available():
            raise ValueError(f"the peer's torch {self.torch.__version__} sees no CUDA device")
        self.device = device

    def instantiate(self, sizes: dict[str, int]) -> Any:
        """Return a model of these sizes with random weights, the same ones every time."""
        self.config = config_of(sizes)
        self.torch.manual_seed(0)
        return importlib.import_module("hydra.utils").instantiate(self.config)

    def facts(self) -> dict[str, Any]:
        """Return versions, parameters and threads."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        return {"packages": versions, "parameters": parameters, "threads": self.torch.get_num_threads()}

    def export(self, folder: str) -> dict[str, Any]:
        """Write the model as a checkpoint folder."""
        state = {name: value.cpu() for name, value in self.model.state_dict().items()}
        self.torch.save(state, Path(folder) / "weights.pt")
        (Path(folder) / "config.json").write_text(json.dumps(self.config))
        return {}

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        """Let convolutions be in float32 within the block, which on a GPU are in TF32 by default."""
        convolutions = self.torch.backends.cudnn
        before, convolutions.allow_tf32 = convolutions.allow_tf32, False
        try:
            yield
        finally:
            convolutions.allow_tf32 = before

    def timed(self, run: Callable[[], object]) -> dict[str, Any]:
        """Do something and return its "seconds", waiting for the device before and after."""
        self._synchronise()
        start = time.perf_counter()
        run()
        self._synchronise()
        return {"seconds": time.perf_counter() - start}

    def _synchronise(self) -> None:
        if self.device != "cpu":
            self.torch.cuda.synchronize()


def normalise(torch: Any, pixels: Any) -> Any:
    """Map uint8 images (..., S, S, 3) to what the encoder takes, (..., 3, S, S)."""
    mean, std = (torch.tensor(values, device=pixels.device) for values in (_MEAN, _STD))
    return ((pixels.float() - mean) / std).movedim(-1, -3)


def config_of(sizes: dict[str, int]) -> dict[str, Any]:
    """Return a model's configuration, as Hydra reads it, for blocks of 10 action numbers and windows of 3 latents.

    Sizes: image_size, patch_size, width, depth, heads, predictor_depth, predictor_heads, head_size, mlp_size,
    projector_size.
    """
    parts, width = "stable_worldmodel.wm.lewm.module", sizes["width"]
    ends = {"input_dim": width, "output_dim": width}
    norm = {"_target_": "hydra.utils.get_class", "path": "torch.nn.BatchNorm1d"}
    projector = {"_target_": f"{parts}.MLP", "hidden_dim": sizes["projector_size"], "norm_fn": norm, **ends}
    encoder = {
        "_target_": "stable_pretraining.backbone.utils.vit_hf",
        "size": "tiny",
        "patch_size": sizes["patch_size"],
        "image_size": sizes["image_size"],
        "pretrained": False,
        "use_mask_token": False,
        "hidden_size": width,
        "num_hidden_layers": sizes["depth"],
        "num_attention_heads": sizes["heads"],
        "intermediate_size": 4 * width,
    }
    predictor = {
        "_target_": f"{parts}.Predictor",
        "num_frames": 3,
        "depth": sizes["predictor_depth"],
        "heads": sizes["predictor_heads"],
        "dim_head": sizes["head_size"],
        "mlp_dim": sizes["mlp_size"],
        "hidden_dim": width,
        "dropout": 0.1,
        "emb_dropout": 0.0,
    }
    return {
        "_target_": "stable_worldmodel.wm.lewm.LeWM",
        "encoder": encoder,
        "predictor": predictor | ends,
        "action_encoder": {"_target_": f"{parts}.Embedder", "input_dim": 10, "emb_dim": width},
        "projector": projector,
        "pred_proj": projector,
    }
