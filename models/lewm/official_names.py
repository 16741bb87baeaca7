"""The weights of a published LeWM: their names and shapes, and how they become those of `LeWM`.

Encoders were saved with transformers 4 (`encoder.encoder.layer.0.attention.attention.query.weight`, among them the
published ones) or 5 (`encoder.layers.0.attention.q_proj.weight`); both are brought to the names of 5 first.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from wmkit.errors import UserError

from .official_config import Architecture

__all__ = ["convert"]

_Row = tuple[str, str, tuple[int, ...]]
"""A weight's name here, its published name and its published shape."""

_WRAPPERS = re.compile(r"^(?:(?:model|module|_orig_mod)\.)+")
"""What Lightning, data parallelism and torch.compile put before a name."""
_UNUSED = re.compile(r"^(?:encoder\.pooler\.|encoder\.embeddings\.mask_token$|sigreg\.)")
_LAYER = re.compile(r"^encoder\.(?:encoder\.)?layers?\.(\d+)\.")
_TRANSFORMERS_4 = (
    ("attention.attention.query.", "attention.q_proj."),
    ("attention.attention.key.", "attention.k_proj."),
    ("attention.attention.value.", "attention.v_proj."),
    ("attention.output.dense.", "attention.o_proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
)
"""Beginnings of names within an encoder layer: of transformers 4, and of 5."""
_NAMED = 3
"""How many weights an error names."""


def convert(weights: Mapping[str, Tensor], sizes: Architecture) -> tuple[dict[str, Tensor], list[str]]:
    """Return the state of a `LeWM` of these sizes, but for its action statistics, and the names it has no use for.

    Args:
        weights: tensors by their published name.
        sizes: of the published model; they give the expected shapes.

    Raises:
        UserError: weights are missing, unknown, given twice, of another shape, or not finite; the text names the first
            few and counts them. So for weights of whole or complex numbers, as of a quantised file.
    """
    known, unused = _known(weights)
    table = list(_table(sizes))
    _check(known, {theirs: shape for _, theirs, shape in table})
    state = {ours: known[theirs].detach() for ours, theirs, _ in table}
    _merge_queries(state, sizes)
    _fill_output(state, sizes)
    _fold_condition(state, sizes)
    state["predictor.positions"] = state["predictor.positions"][0]
    return state, unused


def _known(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by the names of transformers 5, without wrappers, and the names of unused ones."""
    known: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unused = []
    for name, tensor in weights.items():
        short = _modern(_WRAPPERS.sub("", name).replace("._orig_mod.", "."))
        if _UNUSED.match(short):
            unused.append(name)
        elif short in known:
            raise UserError(f"the LeWM checkpoint holds one weight twice: {origin[short]} and {name}")
        else:
            known[short], origin[short] = tensor, name
    return known, unused


def _modern(name: str) -> str:
    """Return the name that transformers 5 gives a weight of the encoder; others stay."""
    layer = _LAYER.match(name)
    if layer is None:
        return name
    rest = name[layer.end() :]
    for old, new in _TRANSFORMERS_4:
        if rest.startswith(old):
            rest = new + rest.removeprefix(old)
    return f"encoder.layers.{layer[1]}.{rest}"


def _check(weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UserError unless the weights are the expected ones, each of its shape and finite."""
    complaints = [
        _named("missing", [name for name in expected if name not in weights]),
        _named("unknown", [name for name in weights if name not in expected]),
        _named("of another shape", _misshapen(weights, expected)),
        _named("no floating-point numbers", [name for name, tensor in weights.items() if _is_odd(name, tensor)]),
    ]
    if any(complaints):
        raise UserError(
            f"weights of the LeWM checkpoint do not fit its config.json: {'; '.join(filter(None, complaints))}"
        )
    broken = _named("", [name for name, tensor in weights.items() if not tensor.isfinite().all()])
    if broken:
        raise UserError(f"weights of the LeWM checkpoint hold NaN or infinity:{broken}; take another one")


def _misshapen(weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the names of weights of another shape, with both shapes."""
    pairs = ((name, tuple(weights[name].shape), shape) for name, shape in expected.items() if name in weights)
    return [f"{name} {found} instead of {shape}" for name, found, shape in pairs if found != shape]


def _is_odd(name: str, tensor: Tensor) -> bool:
    """Return whether a weight is of whole or complex numbers; a BatchNorm's counter may be."""
    return not tensor.is_floating_point() and not name.endswith(".num_batches_tracked")


def _named(what: str, names: Sequence[str]) -> str:
    """Return the count and the first few names, or nothing."""
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:_NAMED])}{more})" if what else f" {', '.join(names[:_NAMED])}{more}"


def _table(sizes: Architecture) -> Iterator[_Row]:
    """List all weights of a published LeWM."""
    yield from _encoder(sizes)
    yield from _predictor(sizes)
    width, hidden, numbers = sizes.latent_size, sizes.action_hidden, sizes.action_size
    yield from _both("predictor.action_encoder.0", "action_encoder.patch_embed", (numbers, sizes.block_size, 1))
    yield from _both("predictor.action_encoder.1", "action_encoder.embed.0", (hidden, numbers))
    yield from _both("predictor.action_encoder.3", "action_encoder.embed.2", (width, hidden))
    if sizes.projector_size is not None:
        yield from _projector("projector", "projector.net", sizes.width, sizes)
        yield from _projector("prediction_projector", "pred_proj.net", width, sizes)


def _encoder(sizes: Architecture) -> Iterator[_Row]:
    """List the encoder's weights, queries, keys and values apart."""
    width, patch, hidden = sizes.width, sizes.patch_size, sizes.mlp_size
    yield "encoder.cls", "encoder.embeddings.cls_token", (1, 1, width)
    places = (sizes.image_size // patch) ** 2 + 1
    yield "encoder.positions", "encoder.embeddings.position_embeddings", (1, places, width)
    yield from _both("encoder.patches", "encoder.embeddings.patch_embeddings.projection", (width, 3, patch, patch))
    for index in range(sizes.depth):
        ours, theirs = f"encoder.blocks.{index}", f"encoder.layers.{index}"
        for part in "qkv":
            yield from _both(f"{ours}.{part}", f"{theirs}.attention.{part}_proj", (width, width), sizes.qkv_bias)
        yield from _both(f"{ours}.attention_out", f"{theirs}.attention.o_proj", (width, width))
        yield from _both(f"{ours}.attention_norm", f"{theirs}.layernorm_before", (width,))
        yield from _both(f"{ours}.mlp_norm", f"{theirs}.layernorm_after", (width,))
        yield from _both(f"{ours}.mlp.0", f"{theirs}.mlp.fc1", (hidden, width))
        yield from _both(f"{ours}.mlp.2", f"{theirs}.mlp.fc2", (width, hidden))
    yield from _both("encoder.norm", "encoder.layernorm", (width,))


def _predictor(sizes: Architecture) -> Iterator[_Row]:
    """List the predictor's weights; the projection of the condition has a name that `LeWM` does not know."""
    width, latent, hidden = sizes.predictor_width, sizes.latent_size, sizes.predictor_mlp_size
    inner = sizes.predictor_heads * sizes.head_size
    yield "predictor.positions", "predictor.pos_embedding", (1, sizes.history, latent)
    if width != latent:
        yield from _both("predictor.entry", "predictor.transformer.input_proj", (width, latent))
        yield from _both("condition", "predictor.transformer.cond_proj", (width, latent))
        yield from _both("predictor.exit", "predictor.transformer.output_proj", (latent, width))
    for index in range(sizes.predictor_depth):
        ours, theirs = f"predictor.blocks.{index}", f"predictor.transformer.layers.{index}"
        yield from _both(f"{ours}.attention_affine", f"{theirs}.attn.norm", (width,))
        yield from _both(f"{ours}.qkv", f"{theirs}.attn.to_qkv", (3 * inner, width), bias=False)
        if _projects_out(sizes):
            yield from _both(f"{ours}.attention_out", f"{theirs}.attn.to_out.0", (width, inner))
        yield from _both(f"{ours}.mlp_affine", f"{theirs}.mlp.net.0", (width,))
        yield from _both(f"{ours}.mlp_in", f"{theirs}.mlp.net.1", (hidden, width))
        yield from _both(f"{ours}.mlp_out", f"{theirs}.mlp.net.4", (width, hidden))
        yield from _both(f"{ours}.modulation", f"{theirs}.adaLN_modulation.1", (6 * width, width))
    yield from _both("predictor.norm", "predictor.transformer.norm", (width,))


def _projector(ours: str, theirs: str, size: int, sizes: Architecture) -> Iterator[_Row]:
    """List the weights of a BatchNorm projector from `size` to D."""
    hidden = sizes.projector_size or 0
    yield from _both(f"{ours}.0", f"{theirs}.0", (hidden, size))
    yield from _both(f"{ours}.1", f"{theirs}.1", (hidden,))
    for statistic in ("running_mean", "running_var"):
        yield f"{ours}.1.{statistic}", f"{theirs}.1.{statistic}", (hidden,)
    yield f"{ours}.1.num_batches_tracked", f"{theirs}.1.num_batches_tracked", ()
    yield from _both(f"{ours}.3", f"{theirs}.3", (sizes.latent_size, hidden))


def _both(ours: str, theirs: str, shape: tuple[int, ...], bias: bool = True) -> Iterable[_Row]:
    """List a layer's weight and, perhaps, its bias, which has as many numbers as the weight has rows."""
    rows = [(f"{ours}.weight", f"{theirs}.weight", shape)]
    return [*rows, (f"{ours}.bias", f"{theirs}.bias", shape[:1])] if bias else rows


def _projects_out(sizes: Architecture) -> bool:
    """Return whether the published attention has an output layer: it leaves out what may be the identity."""
    return not (sizes.predictor_heads == 1 and sizes.head_size == sizes.predictor_width)


def _merge_queries(state: dict[str, Tensor], sizes: Architecture) -> None:
    """Stack queries, keys and values of the encoder; biases that it does not have are zero."""
    for index in range(sizes.depth):
        stem = f"encoder.blocks.{index}"
        for part in ("weight", "bias") if sizes.qkv_bias else ("weight",):
            state[f"{stem}.qkv.{part}"] = torch.cat([state.pop(f"{stem}.{letter}.{part}") for letter in "qkv"])
        state.setdefault(f"{stem}.qkv.bias", torch.zeros(3 * sizes.width))


def _fill_output(state: dict[str, Tensor], sizes: Architecture) -> None:
    """Where the published attention has no output layer, add one that is the identity."""
    for index in range(0 if _projects_out(sizes) else sizes.predictor_depth):
        stem = f"predictor.blocks.{index}.attention_out"
        state[f"{stem}.weight"] = torch.eye(sizes.predictor_width)
        state[f"{stem}.bias"] = torch.zeros(sizes.predictor_width)


def _fold_condition(state: dict[str, Tensor], sizes: Architecture) -> None:
    """Fit the action encoder to `LeWM`'s: matrix for convolution, the condition's projection multiplied in.

    The hidden size becomes 4 * width: what the published one lacks gets zeros on both sides, and SiLU keeps zero.
    """
    stem, width = "predictor.action_encoder", sizes.predictor_width
    state[f"{stem}.0.weight"] = state[f"{stem}.0.weight"].squeeze(-1)
    if width != sizes.latent_size:
        weight, bias = state.pop("condition.weight").double(), state.pop("condition.bias").double()
        state[f"{stem}.3.bias"] = (weight @ state[f"{stem}.3.bias"].double() + bias).float()
        state[f"{stem}.3.weight"] = (weight @ state[f"{stem}.3.weight"].double()).float()
    lacking = 4 * width - sizes.action_hidden
    if lacking < 0:
        text = f"action_encoder.mlp_scale * emb_dim of the LeWM checkpoint is {sizes.action_hidden}"
        raise UserError(f"{text}; supported: at most 4 * predictor.hidden_dim, {4 * width}")
    state[f"{stem}.1.weight"] = pad(state[f"{stem}.1.weight"], (0, 0, 0, lacking))
    state[f"{stem}.1.bias"] = pad(state[f"{stem}.1.bias"], (0, lacking))
    state[f"{stem}.3.weight"] = pad(state[f"{stem}.3.weight"], (0, lacking))
