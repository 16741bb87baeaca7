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
from copy import deepcopy
from typing import Any

if __package__:
    from .lewm_side import LeWMSide, normalise
else:
    from lewm_side import LeWMSide, normalise

_WEIGHT, _CLIP, _LR, _DECAY = 0.09, 1.0, 5e-5, 1e-3


class Side(LeWMSide):
    """One model, its optimisers by precision, and one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.sigreg: Any = None
        self.data: dict[str, Any] = {}
        self.trained: dict[str, tuple[Any, Any]] = {}

    def build(self, device: str, threads: int | None, sizes: dict[str, int], projections: int) -> dict[str, Any]:
        """Make the model; return versions, parameters and threads."""
        self.start(device, threads)
        self.model = self.instantiate(sizes).to(device).train()
        for parameter in self.model.parameters():
            parameter.data.add_(0.03 * self.torch.randn(parameter.shape).to(device))
        loss = importlib.import_module("stable_worldmodel.wm.loss")
        self.sigreg = loss.SIGReg(knots=17, num_proj=projections).to(device)
        return self.facts()

    def batch(self, file: str) -> dict[str, Any]:
        """Read "pixels" (B, T, S, S, 3), uint8, and "actions" (B, T, A), normalised; the last of a clip is not used."""
        tensors = importlib.import_module("safetensors.torch").load_file(file, device=self.device)
        pixels = normalise(self.torch, tensors["pixels"]).contiguous()
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
        with self.exact():
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

        def train() -> None:
            optimizer.zero_grad()
            with torch.autocast(self.device, torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = self._terms(model)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimizer.step()

        return self.timed(train)

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


if __name__ == "__main__":
    from serving import serve

    _side = Side()
    serve({name: getattr(_side, name) for name in ("build", "export", "batch", "loss", "step")})
