"""A peer whose model is wmkit's own, of the folder FAKE_MODEL; it answers what the real one would."""

import os
import shutil

from safetensors.torch import load_file, save_file
from serving import serve

from wmkit.contracts import Context
from wmkit.models import LeWM

MODEL = LeWM.from_pretrained(os.environ["FAKE_MODEL"])
SCENE = {}


def build(device, threads, checkpoint):
    return {"packages": {"fake": "1"}, "parameters": 7, "threads": threads}


def export(folder):
    shutil.copytree(os.environ["FAKE_MODEL"], folder, dirs_exist_ok=True)
    return {}


def scene(file, **settings):
    SCENE.update(load_file(file), settings=settings)
    return {}


def costs(dtype, file):
    found = {name: MODEL.encode({"pixels": SCENE[name]})[:, 0] for name in ("start", "goal")}
    context = Context(found["start"][:, None], found["start"].new_zeros(len(found["start"]), 0, 4))
    each = []
    for candidates, goals in zip(SCENE["candidates"], SCENE["goals"], strict=True):
        actions = candidates.unflatten(-1, (-1, 2)) * MODEL.action_std + MODEL.action_mean
        latents = MODEL.reference_rollout(context, actions.flatten(-2)).latents[:, :, -1]
        each.append((latents - goals[:, None]).square().sum(-1))
    wrong = float(os.environ.get("FAKE_COSTS", "1"))
    tensors = found | {"costs": wrong * MODEL.action_mean.new_tensor([one.tolist() for one in each])}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return {}


def decide(dtype):
    if os.environ.get("FAKE_DEATH"):
        os._exit(9)
    return {"seconds": SCENE["settings"]["iterations"] * 100.0}


def plan(dtype):
    return {"seconds": SCENE["settings"]["iterations"] * 90.0}


def iterate(dtype, repeats):
    return {"seconds": 100.0 * repeats}


serve(
    {
        "build": build,
        "export": export,
        "scene": scene,
        "costs": costs,
        "decide": decide,
        "plan": plan,
        "iterate": iterate,
    }
)
