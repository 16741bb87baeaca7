"""Write a LeWM checkpoint with stable-worldmodel's own functions, and what the model makes of random inputs.

    PEER/bin/python stable_worldmodel_lewm.py CONFIG.json FOLDER [OTHER_IMAGE_SIZE]

It runs under a Python that has stable-worldmodel 0.1.1, with transformers 4 or 5. FOLDER/checkpoints/lewm gets
`config.json` and `weights.pt` by `save_pretrained`; FOLDER/reference.safetensors gets inputs and outputs, computed by
the model that `load_pretrained` returns. Nothing in the random weights is left at zero or one, so that equal outputs
mean equal architectures. The versions are printed as JSON.
"""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file
from stable_worldmodel.wm.utils import load_pretrained, save_pretrained

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_BATCH, _CANDIDATES, _HORIZON = 2, 3, 4


def randomise(model: torch.nn.Module) -> None:
    """Move every parameter and statistic of a BatchNorm away from its start, far enough for signals to get through."""
    for parameter in model.parameters():
        scale = 0.2 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
        parameter.data.add_(scale * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.add_(torch.rand_like(buffer))


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 images (..., S, S, 3) to what the encoder takes, (..., 3, S, S)."""
    return ((pixels.float() - torch.tensor(_MEAN)) / torch.tensor(_STD)).movedim(-1, -3)


@torch.inference_mode()
def reference(model: torch.nn.Module, config: dict, other_size: int | None) -> dict[str, torch.Tensor]:
    """Return images, actions, latents, one-step predictions and rollouts for 1, 2 and 3 known frames."""
    generator, found = torch.Generator().manual_seed(1), {}
    size, block = config["encoder"]["image_size"], config["action_encoder"]["input_dim"]
    for known in (1, 2, 3):
        shape = (_BATCH, known, size, size, 3)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        past = torch.randn(_BATCH, 1, known - 1, block, generator=generator).expand(-1, _CANDIDATES, -1, -1)
        actions = torch.cat([past, torch.randn(_BATCH, _CANDIDATES, _HORIZON, block, generator=generator)], dim=2)
        info = model.encode({"pixels": normalise(pixels), "action": actions[:, 0, :known]})
        scene = {"pixels": normalise(pixels).unsqueeze(1).expand(-1, _CANDIDATES, -1, -1, -1, -1)}
        found[f"pixels.{known}"], found[f"actions.{known}"] = pixels, actions
        found[f"latents.{known}"] = info["emb"]
        found[f"predictions.{known}"] = model.predict(info["emb"], info["act_emb"])
        found[f"rollout.{known}"] = model.rollout(scene, actions)["predicted_emb"][:, :, known:]
    if other_size is not None:
        pixels = torch.randint(0, 256, (_BATCH, 1, other_size, other_size, 3), dtype=torch.uint8, generator=generator)
        found["pixels.other"], found["latents.other"] = pixels, model.encode({"pixels": normalise(pixels)})["emb"]
    return {name: tensor.clone().contiguous() for name, tensor in found.items()}


def main() -> None:
    """Build, save, load again, compute, write."""
    config, folder = OmegaConf.load(sys.argv[1]), Path(sys.argv[2]).resolve()
    torch.manual_seed(0)
    model = instantiate(config)
    randomise(model)
    save_pretrained(model, "lewm", config=config, cache_dir=str(folder))
    model = load_pretrained("lewm", cache_dir=str(folder)).eval()
    other_size = int(sys.argv[3]) if len(sys.argv) > 3 else None
    save_file(reference(model, OmegaConf.to_container(config), other_size), folder / "reference.safetensors")
    packages = ("stable-worldmodel", "stable-pretraining", "transformers", "torch")
    print(json.dumps({name: importlib.metadata.version(name) for name in packages}))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
