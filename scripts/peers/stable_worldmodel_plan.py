"""stable-worldmodel's LeWM and CEM solver for `wmkit bench plan`; run by a Python that has stable-worldmodel 0.1.1.

Requests, in this order (see `serving.serve`):

    build     makes the model at paper size with random weights, or reads a checkpoint folder
    export    writes a checkpoint folder of it
    scene     reads what is planned: images of start and goal, and candidates
    costs     writes the costs of the candidates, and the latents of start and goal
    decide    one decision: both images encoded, and CEM; its seconds
    plan      CEM with both images already encoded; its seconds
    iterate   the same with one iteration, repeated; the seconds of all

Other dtypes than float32 are autocast, as the embedding of actions takes float32 alone. The random weights leave
nothing at zero or one, so that equal outputs mean equal architectures, and listen to actions about as much as a trained
model does: candidates end as far apart as 0.6 of a latent's size, where plain noise gives 0.07 and ranks mean little.
"""

import importlib
from typing import Any

if __package__:
    from .lewm_side import LeWMSide, normalise
else:
    from lewm_side import LeWMSide, normalise

_STRENGTH = 16.0
_PAPER = {
    "image_size": 224,
    "patch_size": 14,
    "width": 192,
    "depth": 12,
    "heads": 3,
    "predictor_depth": 6,
    "predictor_heads": 16,
    "head_size": 64,
    "mlp_size": 2048,
    "projector_size": 2048,
}
"""The model as published: ViT-tiny/14 at 224, predictor of 6 layers and 16 heads, BatchNorm projectors."""


class Side(LeWMSide):
    """One model and one scene."""

    def __init__(self) -> None:
        super().__init__()
        self.scenes: dict[str, Any] = {}
        self.settings: dict[str, int] = {}

    def build(self, device: str, threads: int | None, checkpoint: str | None) -> dict[str, Any]:
        """Make the model; return versions, parameters and threads."""
        self.start(device, threads)
        model = self._paper_size() if checkpoint is None else from_folder(checkpoint)
        self.model = model.eval().to(device)
        return self.facts()

    def _paper_size(self) -> Any:
        """Return the model at paper size with random weights."""
        torch, model = self.torch, self.instantiate(_PAPER)
        for name, parameter in model.named_parameters():
            parameter.data.add_(0.03 * torch.randn_like(parameter))
            if "adaLN_modulation" in name:
                parameter.data.mul_(_STRENGTH)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand_like(buffer))
        return model

    def scene(self, file: str, **settings: int) -> dict[str, Any]:
        """Read what is planned.

        The file holds the images "start" and "goal" (B, 1, S, S, 3), uint8, "candidates" (M, B, N, H, A), normalised,
        and the latents "goals" (M, B, D).

        Settings: samples, iterations, elites, horizon, action_size, action_repeat.
        """
        self.scenes = importlib.import_module("safetensors.torch").load_file(file, device=self.device)
        self.settings = settings
        return {}

    def costs(self, dtype: str, file: str) -> dict[str, Any]:
        """Write "costs" (M, B, N) to the goals, and the latents "start" and "goal" (B, D), all float32."""
        found = []
        with self.torch.inference_mode(), self._products(dtype), self.exact():
            info = self._encoded()
            for candidates, goals in zip(self.scenes["candidates"], self.scenes["goals"], strict=True):
                known = info | {"goal_emb": goals.unsqueeze(1).to(info["goal_emb"].dtype)}
                expanded = {name: self._expanded(value, candidates.shape[1]) for name, value in known.items()}
                found.append(self.model.get_cost(expanded, candidates))
            tensors = {"costs": self.torch.stack(found), "start": info["emb"][:, 0], "goal": info["goal_emb"][:, 0]}
        tensors = {name: value.float().cpu().contiguous() for name, value in tensors.items()}
        importlib.import_module("safetensors.torch").save_file(tensors, file)
        return {}

    def decide(self, dtype: str) -> dict[str, Any]:
        """Take one decision from images."""
        solver = self._solver(self.settings["iterations"])
        with self._products(dtype):
            return self.timed(lambda: solver.solve(self._raw()))

    def plan(self, dtype: str) -> dict[str, Any]:
        """Make one plan from latents."""
        return self._solved(dtype, self.settings["iterations"], 1)

    def iterate(self, dtype: str, repeats: int) -> dict[str, Any]:
        """Make `repeats` plans of one iteration from latents."""
        return self._solved(dtype, 1, repeats)

    def _solved(self, dtype: str, iterations: int, repeats: int) -> dict[str, Any]:
        solver = self._solver(iterations)
        with self._products(dtype):
            info = self._encoded()

            def run() -> None:
                for _ in range(repeats):
                    solver.solve(dict(info))

            return self.timed(run)

    def _raw(self) -> dict[str, Any]:
        """Return what the solver takes."""
        start, goal = (normalise(self.torch, self.scenes[name]) for name in ("start", "goal"))
        block = self.settings["action_size"] * self.settings["action_repeat"]
        return {"pixels": start, "goal": goal, "action": self.torch.zeros(len(start), 1, block, device=self.device)}

    def _encoded(self) -> dict[str, Any]:
        """Return what the solver takes, with both images' latents, as it keeps them from one iteration to the next."""
        raw = self._raw()
        with self.torch.inference_mode():
            latents = [self.model.encode({"pixels": raw[name]})["emb"] for name in ("pixels", "goal")]
        return raw | {"emb": latents[0], "goal_emb": latents[1]}

    def _expanded(self, value: Any, samples: int) -> Any:
        """Return (B, ...) as (B, N, ...)."""
        return value.unsqueeze(1).expand(-1, samples, *value.shape[1:])

    def _products(self, dtype: str) -> Any:
        """Return the context in which matrix products have a dtype."""
        torch = self.torch
        return torch.autocast(self.device, getattr(torch, dtype), enabled=dtype != "float32")

    def _solver(self, iterations: int) -> Any:
        """Return their solver with what the paper plans with, all environments at once."""
        settings, batch = self.settings, len(self.scenes["start"])
        solver_class = importlib.import_module("stable_worldmodel.solver").CEMSolver
        solver = solver_class(
            self.model,
            batch_size=batch,
            num_samples=settings["samples"],
            n_steps=iterations,
            topk=settings["elites"],
            device=self.device,
        )
        horizon = settings["horizon"]
        config = importlib.import_module("stable_worldmodel.policy").PlanConfig(
            horizon=horizon, receding_horizon=horizon, action_block=settings["action_repeat"]
        )
        space = importlib.import_module("gymnasium").spaces.Box(-1, 1, (1, settings["action_size"]))
        solver.configure(action_space=space, n_envs=batch, config=config)
        return solver


def from_folder(folder: str) -> Any:
    """Read a checkpoint of theirs, a folder or a .pt file."""
    return importlib.import_module("stable_worldmodel.wm.utils").load_pretrained(folder)


if __name__ == "__main__":
    from serving import serve

    _side = Side()
    serve({name: getattr(_side, name) for name in ("build", "export", "scene", "costs", "decide", "plan", "iterate")})
