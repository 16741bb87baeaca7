"""Compare `LeWM.from_lewm` with the model that stable-worldmodel makes of the same checkpoint.

    python benchmarks/lewm_parity.py --peer-python PEER/bin/python

The peer lives in an environment of its own:

    python3 -m venv PEER && PEER/bin/pip install stable-worldmodel==0.1.1 imageio imageio-ffmpeg transformers einops \
        hydra-core stable-pretraining h5py hdf5plugin pygame 'pymunk>=7'

For each architecture the peer builds a model from a Hydra configuration, saves it with its own `save_pretrained`, loads
it again and computes latents, one-step predictions and rollouts from 1, 2 and 3 known frames, in float32 on random
weights. Then the same files are read here, and the largest differences are written down. transformers 4 and 5 name the
encoder's weights differently: give two environments to try both.
"""

# pyright: reportMissingImports=false

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import load_file
from torch import Tensor

from wmkit.contracts import Context
from wmkit.errors import UserError
from wmkit.models import LeWM
from wmkit.provenance import provenance

_HERE = Path(__file__).resolve().parent
_PEER = _HERE / "peers" / "stable_worldmodel_lewm.py"
_PARTS = "stable_worldmodel.wm.lewm.module"
_BATCH_NORM = {"_target_": "torch.nn.BatchNorm1d", "_partial_": True}


@dataclass(frozen=True)
class Args:
    """What to compare.

    Attributes:
        peer_python: Python of each environment with stable-worldmodel.
        tolerance: largest difference that passes.
        out: JSON file of the result.
    """

    peer_python: tuple[Path, ...]
    tolerance: float = 1e-5
    out: Path = _HERE / "results" / "lewm_parity.json"


@dataclass(frozen=True)
class Case:
    """One architecture.

    Attributes:
        config: Hydra configuration.
        action_repeat: environment steps per model step.
        other_size: another image size to encode, pixels; None for none.
    """

    config: dict[str, Any]
    action_repeat: int = 5
    other_size: int | None = None


def lewm(
    encoder: Mapping[str, Any], predictor: Mapping[str, Any], actions: Mapping[str, Any], hidden: int | None
) -> dict:
    """Return a configuration of the published form; `hidden` is the projectors', None for no projectors."""
    latent = predictor["input_dim"]
    config: dict[str, Any] = {
        "_target_": "stable_worldmodel.wm.lewm.LeWM",
        "encoder": {"_target_": "stable_pretraining.backbone.utils.vit_hf", "pretrained": False, **encoder},
        "predictor": {"_target_": f"{_PARTS}.Predictor", **predictor},
        "action_encoder": {"_target_": f"{_PARTS}.Embedder", "emb_dim": latent, **actions},
    }
    if hidden is not None:
        width = encoder.get("hidden_size", 192)
        for name, size in (("projector", width), ("pred_proj", latent)):
            sizes = {"input_dim": size, "output_dim": latent, "hidden_dim": hidden}
            config[name] = {"_target_": f"{_PARTS}.MLP", **sizes, "norm_fn": _BATCH_NORM}
    return config


def cases() -> dict[str, Case]:
    """Return the architectures by name: the published one, an odd one, and one without projectors and output layers."""
    sizes = {"num_frames": 3, "input_dim": 192, "hidden_dim": 192, "output_dim": 192}
    paper = lewm(
        {"size": "tiny", "patch_size": 14, "image_size": 224, "use_mask_token": False},
        {**sizes, "depth": 6, "heads": 16, "mlp_dim": 2048, "dim_head": 64, "dropout": 0.1, "emb_dropout": 0.0},
        {"input_dim": 10},
        2048,
    )
    vit = {"hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 5, "intermediate_size": 72}
    odd = lewm(
        {"size": "small", "patch_size": 6, "image_size": 42, **vit, "layer_norm_eps": 1e-5, "qkv_bias": False},
        {"num_frames": 4, "input_dim": 28, "hidden_dim": 36, "depth": 3, "heads": 3, "mlp_dim": 50, "dim_head": 10},
        {"input_dim": 6, "smoothed_dim": 7, "mlp_scale": 3},
        33,
    )
    vit = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    plain = lewm(
        {"size": "tiny", "patch_size": 8, "image_size": 32, **vit, "use_mask_token": True},
        {"num_frames": 3, "input_dim": 24, "hidden_dim": 24, "depth": 2, "heads": 1, "mlp_dim": 48, "dim_head": 24},
        {"input_dim": 4, "smoothed_dim": 4},
        None,
    )
    return {"paper": Case(paper, other_size=112), "odd": Case(odd, 3, 54), "plain": Case(plain, 2)}


def ask(python: Path, case: Case, folder: Path) -> dict[str, Any]:
    """Let the peer write a checkpoint and its outputs; return its versions.

    Raises:
        UserError: the peer failed; the text ends with its last words.
    """
    (folder / "request.json").write_text(json.dumps(case.config))
    other = [] if case.other_size is None else [str(case.other_size)]
    command = [str(python), "-W", "ignore", str(_PEER), str(folder / "request.json"), str(folder), *other]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"the peer ended with code {done.returncode}: {' '.join(done.stderr.split())[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(case: Case, folder: Path) -> dict[str, dict[str, float]]:
    """Return, by the name of the output, the largest difference and the peer's standard deviation."""
    checkpoint, reference = folder / "checkpoints" / "lewm", load_file(folder / "reference.safetensors")
    size = case.config["action_encoder"]["input_dim"] // case.action_repeat
    options = {"action_repeat": case.action_repeat, "action_mean": [0.0] * size, "action_std": [1.0] * size}
    model = LeWM.from_lewm(checkpoint, **options)
    found: dict[str, Tensor] = {}
    for known in (1, 2, 3):
        actions, latents = reference[f"actions.{known}"], model.encode({"pixels": reference[f"pixels.{known}"]})
        found[f"latents.{known}"] = latents
        with torch.no_grad():
            found[f"predictions.{known}"] = model.predict(latents, actions[:, 0, :known])
        context = Context(latents, actions[:, 0, : known - 1])
        found[f"rollout.{known}"] = model.rollout(context, actions[:, :, known - 1 :]).latents
        found[f"reference_rollout.{known}"] = model.reference_rollout(context, actions[:, :, known - 1 :]).latents
    if case.other_size is not None:
        other = LeWM.from_lewm(checkpoint, image_size=case.other_size, **options)
        found["latents.other"] = other.encode({"pixels": reference["pixels.other"]})
    expected = {name: reference[name.removeprefix("reference_")] for name in found}
    return {
        name: {"difference": float((tensor - expected[name]).abs().max()), "std": float(expected[name].std())}
        for name, tensor in found.items()
    }


def run(python: Path) -> dict[str, Any]:
    """Return versions and differences with one environment, printing them."""
    found: dict[str, Any] = {"peer": {}, "differences": {}}
    for name, case in cases().items():
        with tempfile.TemporaryDirectory() as folder:
            found["peer"] = ask(python, case, Path(folder))
            found["differences"][name] = compare(case, Path(folder))
        for output, numbers in found["differences"][name].items():
            text = f"{numbers['difference']:.2e}, std {numbers['std']:.2f}"
            print(f"transformers {found['peer']['transformers']}  {name:6} {output:20} {text}", flush=True)
    return found


def main(args: Args) -> None:
    """Compare, print and write; exit with 1 where a difference is too large."""
    runs = [run(python) for python in args.peer_python]
    worst = max(
        numbers["difference"] for each in runs for case in each["differences"].values() for numbers in case.values()
    )
    result = {
        "provenance": provenance(),
        "tolerance": args.tolerance,
        "worst_difference": worst,
        "configs": {name: case.config for name, case in cases().items()},
        "runs": runs,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"worst difference {worst:.2e}, tolerance {args.tolerance:.0e}")
    raise SystemExit(worst > args.tolerance)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
