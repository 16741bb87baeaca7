"""Convert the weights of stable-worldmodel's LeWM to wmkit's."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["convert"]

_RENAMED = (
    (r"^encoder\.embeddings\.cls_token$", "encoder.cls"),
    (r"^encoder\.embeddings\.position_embeddings$", "encoder.positions"),
    (r"^encoder\.embeddings\.patch_embeddings\.projection\.", "encoder.patches."),
    (r"^encoder\.layers\.(\d+)\.attention\.([qkv])_proj\.(\w+)$", r"encoder.blocks.\1.qkv.\3.\2"),
    (r"^encoder\.layers\.(\d+)\.attention\.o_proj\.", r"encoder.blocks.\1.attention_out."),
    (r"^encoder\.layers\.(\d+)\.layernorm_before\.", r"encoder.blocks.\1.attention_norm."),
    (r"^encoder\.layers\.(\d+)\.layernorm_after\.", r"encoder.blocks.\1.mlp_norm."),
    (r"^encoder\.layers\.(\d+)\.mlp\.fc1\.", r"encoder.blocks.\1.mlp.0."),
    (r"^encoder\.layers\.(\d+)\.mlp\.fc2\.", r"encoder.blocks.\1.mlp.2."),
    (r"^encoder\.layernorm\.", "encoder.norm."),
    (r"^predictor\.pos_embedding$", "predictor.positions"),
    (r"^predictor\.transformer\.norm\.", "predictor.norm."),
    (r"^predictor\.transformer\.layers\.(\d+)\.attn\.norm\.", r"predictor.blocks.\1.attention_affine."),
    (r"^predictor\.transformer\.layers\.(\d+)\.attn\.to_qkv\.", r"predictor.blocks.\1.qkv."),
    (r"^predictor\.transformer\.layers\.(\d+)\.attn\.to_out\.0\.", r"predictor.blocks.\1.attention_out."),
    (r"^predictor\.transformer\.layers\.(\d+)\.mlp\.net\.0\.", r"predictor.blocks.\1.mlp_affine."),
    (r"^predictor\.transformer\.layers\.(\d+)\.mlp\.net\.1\.", r"predictor.blocks.\1.mlp_in."),
    (r"^predictor\.transformer\.layers\.(\d+)\.mlp\.net\.4\.", r"predictor.blocks.\1.mlp_out."),
    (r"^predictor\.transformer\.layers\.(\d+)\.adaLN_modulation\.1\.", r"predictor.blocks.\1.modulation."),
    (r"^action_encoder\.patch_embed\.", "predictor.action_encoder.0."),
    (r"^action_encoder\.embed\.0\.", "predictor.action_encoder.1."),
    (r"^action_encoder\.embed\.2\.", "predictor.action_encoder.3."),
    (r"^projector\.net\.", "projector."),
    (r"^pred_proj\.net\.", "prediction_projector."),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a `wmkit.models.LeWM` of paper size, but for its action statistics.

    Args:
        weights: `state_dict` of a stable_worldmodel.wm.lewm.LeWM with a ViT of transformers 5.

    Raises:
        ValueError: a name is unknown.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        state[_renamed(name)] = tensor
    for name in [name for name in state if name.endswith(".q")]:
        stem = name.removesuffix(".q")
        state[stem] = torch.cat([state.pop(f"{stem}.{part}") for part in "qkv"])
    state["predictor.positions"] = state["predictor.positions"][0]
    state["predictor.action_encoder.0.weight"] = state["predictor.action_encoder.0.weight"].squeeze(-1)
    return state


def _renamed(name: str) -> str:
    """Return wmkit's name of a weight."""
    for pattern, replacement in _RENAMED:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name)
    raise ValueError(f"unknown weight {name!r}: not a LeWM of stable-worldmodel 0.1.1 with transformers 5")
