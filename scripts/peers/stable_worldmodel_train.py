"""stable-worldmodel's LeWM in training, for `wmkit bench train`; run by a Python that has stable-worldmodel 0.1.1.

Requests, in this order (see `serving.serve`):

    build     makes the model from its sizes, with random weights
    export    writes a checkpoint folder of it
    batch     reads the batch: images and normalised actions
    loss      the loss, its terms and the norm of its gradient in float32, without dropout, under given projections
    step      one step of training; its seconds

The loss is that of the published training script: the squared error of the next latents under teacher forcing, and
their SIGReg, a statistic for each position in time. A step is that loss, its gradients clipped to norm 1, and AdamW, in
the precision that is asked for; bfloat16 is the autocast that the script trains with. The images are normalised
beforehand, as their loader does. The random weights leave nothing at zero or one.
"""

import importlib
import importlib.metadata
import json
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_PACKAGES = ("stable-worldmodel", "stable-pretraining", "transformers", "torch")
_WEIGHT, _CLIP, _LR, _DECAY = 0.09, 1.0, 5e-5, 1e-3


class Side:
    """One model, its optimisers by precision, and one batch."""

    def __init__(self) -> None:
        self.torch = importlib.import_module("torch")
        self.device = "cpu"
        self.config: dict[str, Any] = {}
        self.model: Any = None
        self.sigreg: Any = None
        self.data: dict[str, Any] = {}
        self.trained: dict[str, tuple[Any, Any]] = {}

    def build(self, device: str, threads: int | None, sizes: dict[str, int], projections: int) -> dict[str, Any]:
        """Make the model; return versions, parameters and threads."""
        torch = self.torch
        if threads is not None:
            torch.set_num_threads(threads)
        if device != "cpu" and not torch.cuda.is_available():
            raise ValueError(f"the peer's torch {torch.__version__} sees no CUDA device")
        self.device, self.config = device, config_of(sizes)
        torch.manual_seed(0)
        self.model = importlib.import_module("hydra.utils").instantiate(self.config).to(device).train()
        for parameter in self.model.parameters():
            parameter.data.add_(0.03 * torch.randn(parameter.shape).to(device))
        loss = importlib.import_module("stable_worldmodel.wm.loss")
        self.sigreg = loss.SIGReg(knots=17, num_proj=projections).to(device)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        return {"packages": versions, "parameters": parameters, "threads": torch.get_num_threads()}

    def export(self, folder: str) -> dict[str, Any]:
        """Write the model as a checkpoint folder."""
        state = {name: value.cpu() for name, value in self.model.state_dict().items()}
        self.torch.save(state, Path(folder) / "weights.pt")
        (Path(folder) / "config.json").write_text(json.dumps(self.config))
        return {}

    def batch(self, file: str) -> dict[str, Any]:
        """Read "pixels" (B, T, S, S, 3), uint8, and "actions" (B, T, A), normalised; the last of a clip is not used."""
        tensors = importlib.import_module("safetensors.torch").load_file(file, device=self.device)
        mean, std = (self.torch.tensor(values, device=self.device) for values in (_MEAN, _STD))
        pixels = ((tensors["pixels"].float() - mean) / std).movedim(-1, -3).contiguous()
        self.data = {"pixels": pixels, "action": tensors["actions"]}
        return {}

    def loss(self, seed: int) -> dict[str, Any]:
        """Return "prediction", "sigreg", "loss" and "grad_norm" with projections drawn from `seed`."""
        model = deepcopy(self.model)
        for module in model.modules():
            if hasattr(module, "dropout") and not isinstance(module.dropout, self.torch.nn.Module):
                module.dropout = 0.0
            if isinstance(module, self.torch.nn.Dropout):
                module.p = 0.0
        terms = self._terms(model, seed)
        terms["loss"].backward()
        terms["grad_norm"] = self.torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        return {name: float(value) for name, value in terms.items()}

    def step(self, dtype: str) -> dict[str, Any]:
        """Take one step of training."""
        torch = self.torch
        if dtype not in self.trained:
            model = deepcopy(self.model)
            self.trained[dtype] = model, torch.optim.AdamW(model.parameters(), lr=_LR, weight_decay=_DECAY)
        model, optimizer = self.trained[dtype]
        self._synchronise()
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = self._terms(model)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        self._synchronise()
        return {"seconds": time.perf_counter() - start}

    def _terms(self, model: Any, seed: int | None = None) -> dict[str, Any]:
        """Return the loss and its terms; `seed` is set right before the projections are drawn."""
        encoded = model.encode(dict(self.data))
        latents, actions = encoded["emb"], encoded["act_emb"]
        guesses = model.predict(latents[:, :-1], actions[:, : latents.shape[1] - 1])
        prediction = (guesses - latents[:, 1:]).pow(2).mean()
        if seed is not None:
            self.torch.manual_seed(seed)
        statistic = self.sigreg(latents.transpose(0, 1))
        return {"prediction": prediction, "sigreg": statistic, "loss": prediction + _WEIGHT * statistic}

    def _synchronise(self) -> None:
        if self.device != "cpu":
            self.torch.cuda.synchronize()


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


if __name__ == "__main__":
    from serving import serve

    _side = Side()
    serve({name: getattr(_side, name) for name in ("build", "export", "batch", "loss", "step")})
