"""Serve stable-worldmodel's LeWM at paper size and its CEM solver to `planning_time.py`.

It runs under a Python that has stable-worldmodel 0.1.1, reads one JSON request a line and answers each with one line:

    {"do": "describe"}                  versions, threads and number of parameters
    {"do": "export", "file": PATH}      writes weights, inputs and outputs as safetensors
    {"do": "plan"}                      one decision, warm-up being the caller's business: seconds

The weights are random, and nothing in them is left at zero or one, so that equal outputs mean equal architectures.
"""

import contextlib
import importlib
import importlib.metadata
import json
import sys
import time

import gymnasium
import stable_pretraining
import torch
from safetensors.torch import save_file
from stable_worldmodel.policy import PlanConfig
from stable_worldmodel.solver import CEMSolver
from stable_worldmodel.wm.lewm import LeWM

_SIZE = 192
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def build() -> LeWM:
    """Return the model as published: ViT-tiny/14 at 224, predictor of 6 layers and 16 heads, BatchNorm projectors."""
    parts = importlib.import_module("stable_worldmodel.wm.lewm.module")
    torch.manual_seed(0)
    encoder = stable_pretraining.backbone.utils.vit_hf("tiny", 14, 224, pretrained=False, use_mask_token=False)
    sizes = {"input_dim": _SIZE, "hidden_dim": _SIZE, "output_dim": _SIZE}
    predictor = parts.Predictor(
        num_frames=3, depth=6, heads=16, dim_head=64, mlp_dim=2048, dropout=0.1, emb_dropout=0.0, **sizes
    )
    projectors = [
        parts.MLP(input_dim=_SIZE, hidden_dim=2048, output_dim=_SIZE, norm_fn=torch.nn.BatchNorm1d) for _ in range(2)
    ]
    model = LeWM(encoder, predictor, parts.Embedder(input_dim=10, emb_dim=_SIZE), *projectors).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.03 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.add_(torch.rand_like(buffer))
    return model


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 images (..., 224, 224, 3) to what the encoder takes, (..., 3, 224, 224)."""
    return ((pixels.float() - torch.tensor(_MEAN)) / torch.tensor(_STD)).movedim(-1, -3)


@torch.inference_mode()
def export(model: LeWM, path: str) -> None:
    """Write the weights and, for 1 and for 3 known frames, images, actions and the latents that follow."""
    generator = torch.Generator().manual_seed(1)
    tensors = {f"weights.{name}": tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    for known in (1, 3):
        pixels = torch.randint(0, 256, (1, known, 224, 224, 3), dtype=torch.uint8, generator=generator)
        past = torch.randn(1, 1, known - 1, 10, generator=generator).expand(-1, 8, -1, -1)
        actions = torch.cat([past, torch.randn(1, 8, 5, 10, generator=generator)], dim=2)
        info = {"pixels": normalise(pixels).unsqueeze(1).expand(-1, 8, -1, -1, -1, -1)}
        latents = model.rollout(info, actions)["predicted_emb"]
        values = {"pixels": pixels, "actions": actions, "latents": latents}
        tensors |= {f"{name}.{known}": tensor.clone().contiguous() for name, tensor in values.items()}
    save_file(tensors, path)


def solver_of(model: LeWM, samples: int, iterations: int) -> CEMSolver:
    """Return their solver: 30 elites, horizon 5, blocks of 5 actions, as in the paper."""
    solver = CEMSolver(model, num_samples=samples, n_steps=iterations, topk=min(30, samples))
    space = gymnasium.spaces.Box(-1, 1, (1, 2))
    solver.configure(action_space=space, n_envs=1, config=PlanConfig(horizon=5, receding_horizon=5, action_block=5))
    return solver


def main() -> None:
    """Answer requests until standard input ends; arguments: threads, samples, iterations."""
    threads, samples, iterations = (int(argument) for argument in sys.argv[1:4])
    torch.set_num_threads(threads)
    model = build()
    solver = solver_of(model, samples, iterations)
    generator = torch.Generator().manual_seed(2)
    answers = sys.stdout
    for line in sys.stdin:
        request, answer = json.loads(line), {}
        with contextlib.redirect_stdout(sys.stderr):
            if request["do"] == "describe":
                packages = ("stable-worldmodel", "torch", "transformers")
                answer = {name: importlib.metadata.version(name) for name in packages}
                answer |= {"parameters": sum(p.numel() for p in model.parameters()), "threads": torch.get_num_threads()}
            elif request["do"] == "export":
                export(model, request["file"])
            else:
                images = torch.randint(0, 256, (2, 1, 1, 224, 224, 3), dtype=torch.uint8, generator=generator)
                start = time.perf_counter()
                info = {"pixels": normalise(images[0]), "goal": normalise(images[1]), "action": torch.zeros(1, 1, 10)}
                solver.solve(info)
                answer = {"seconds": time.perf_counter() - start}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
