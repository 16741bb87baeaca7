"""LeWM's published `config.json`, read without importing anything that it names.

The file is Hydra's: nested mappings whose `_target_` names a class of `jepa.py` and `module.py` of lucas-maes/le-wm, or
of stable-worldmodel 0.1 (`stable_worldmodel.wm.lewm`), the arguments beside it. Only names known here are understood,
with the defaults of those classes; an option that changes the numbers and is not supported is refused by its name.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from wmkit.errors import UserError

__all__ = ["Architecture", "is_lewm", "parse"]

_SWM = "stable_worldmodel.wm.lewm"
_ROOTS = {"jepa.JEPA", f"{_SWM}.LeWM", f"{_SWM}.lewm.LeWM", f"{_SWM}.JEPA", f"{_SWM}.module.JEPA"}
_MODULES = ("module", _SWM, f"{_SWM}.module")
_PREDICTORS = {f"{module}.{name}" for module in _MODULES for name in ("ARPredictor", "Predictor")}
_EMBEDDERS = {f"{module}.Embedder" for module in _MODULES}
_MLPS = {f"{module}.MLP" for module in _MODULES}
_ENCODERS = {f"stable_pretraining.backbone.{name}" for name in ("vit_hf", "utils.vit_hf")}
_BATCH_NORMS = {"torch.nn.BatchNorm1d", "torch.nn.modules.batchnorm.BatchNorm1d"}
_GELUS = {"torch.nn.GELU", "torch.nn.modules.activation.GELU"}
_VIT_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_VIT_SIZES["huge"] = (1280, 32, 16)
"""Size -> width, depth and heads of `vit_hf`; its MLP has 4 times the size's width unless told otherwise."""
_HYDRA = ("_target_", "_convert_", "_recursive_", "_partial_")
_MISSING = object()
_LARGEST = 1 << 16


@dataclass(frozen=True)
class Architecture:
    """The sizes of a published LeWM.

    Attributes:
        image_size: pixels.
        patch_size: pixels.
        width: size of an encoder token.
        depth: encoder blocks.
        heads: encoder attention heads.
        mlp_size: hidden size of the encoder's MLPs.
        norm_eps: of the encoder's LayerNorms.
        qkv_bias: Whether the encoder's queries, keys and values have biases.
        latent_size: D.
        history: frames that the predictor has positions for.
        predictor_width: size of a predictor token.
        predictor_depth: predictor blocks.
        predictor_heads: predictor attention heads.
        head_size: size of one predictor head.
        predictor_mlp_size: hidden size of the predictor's MLPs.
        dropout: rate, in training alone.
        block_size: A, numbers of the actions of one model step.
        action_size: numbers that an action block is first mapped to.
        action_hidden: hidden size of the action encoder.
        projector_size: hidden size of both projectors; None without projectors.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_size: int
    norm_eps: float
    qkv_bias: bool
    latent_size: int
    history: int
    predictor_width: int
    predictor_depth: int
    predictor_heads: int
    head_size: int
    predictor_mlp_size: int
    dropout: float
    block_size: int
    action_size: int
    action_hidden: int
    projector_size: int | None


def is_lewm(document: Any) -> bool:
    """Return whether a JSON document is the configuration of a published LeWM, going by its `_target_`."""
    return isinstance(document, dict) and document.get("_target_") in _ROOTS


def parse(document: Any) -> Architecture:
    """Read the configuration of a published LeWM.

    Args:
        document: what `config.json` holds.

    Raises:
        UserError: it is of something else, lacks an option, has one that is unknown or not supported, or its sizes do
            not fit each other; the text names the option.
    """
    root = _Section("config", document, _ROOTS)
    encoder = _encoder(root.take("encoder"))
    predictor = _Section("predictor", root.take("predictor"), _PREDICTORS)
    embedder = _Section("action_encoder", root.take("action_encoder"), _EMBEDDERS)
    projectors = [_projector(name, root.take(name, None)) for name in ("projector", "pred_proj")]
    root.end()
    latent = predictor.size("input_dim")
    parts = {
        "history": predictor.size("num_frames"),
        "predictor_width": predictor.size("hidden_dim"),
        "predictor_depth": predictor.size("depth"),
        "predictor_heads": predictor.size("heads"),
        "head_size": predictor.size("dim_head", 64),
        "predictor_mlp_size": predictor.size("mlp_dim"),
        "dropout": float(predictor.take("dropout", 0.0)),
        "block_size": embedder.size("input_dim", 10),
        "action_size": embedder.size("smoothed_dim", 10),
    }
    output, condition = predictor.size("output_dim", latent, or_none=True), embedder.size("emb_dim", 10)
    hidden = embedder.size("mlp_scale", 4) * condition
    predictor.skip("emb_dropout")
    predictor.end()
    embedder.end()
    _fit("predictor.output_dim", output, "predictor.input_dim", latent)
    _fit("action_encoder.emb_dim", condition, "predictor.input_dim", latent)
    size = _fit_projectors(projectors, int(encoder["width"]), latent)
    return Architecture(**encoder, **parts, latent_size=latent, action_hidden=hidden, projector_size=size)


class _Section:
    """One mapping of the file, whose options are taken out one by one."""

    def __init__(self, path: str, value: Any, targets: Collection[str]) -> None:
        if not isinstance(value, Mapping):
            raise UserError(f"{path} of the LeWM checkpoint is {value!r}; expected a mapping with a _target_")
        target = value.get("_target_")
        if target not in targets:
            known = ", ".join(sorted(targets))
            raise UserError(f"{path}._target_ of the LeWM checkpoint is {target!r}; supported: {known}")
        self.path, self.left = path, {name: item for name, item in value.items() if name not in _HYDRA}

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """Return an option and cross it off. Raises UserError where it is missing and has no default."""
        value = self.left.pop(name, default)
        if value is _MISSING:
            raise UserError(f"the LeWM checkpoint's configuration lacks {self.path}.{name}")
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{self.path}.{name} is {value!r}: resolve the configuration's references first")
        return value

    def size(self, name: str, default: int | object = _MISSING, or_none: bool = False) -> int:
        """Return an option that is a whole number above 0; with `or_none`, null means the default too."""
        value = self.take(name, default)
        value = default if value is None and or_none else value
        if type(value) is not int or not 1 <= value <= _LARGEST:
            expected = f"a whole number from 1 to {_LARGEST}"
            raise UserError(f"{self.path}.{name} of the LeWM checkpoint is {value!r}; expected {expected}")
        return value

    def only(self, name: str, supported: Any) -> None:
        """Raise UserError unless an option is absent or has the one value that is supported."""
        value = self.take(name, supported)
        if value != supported or type(value) is not type(supported):
            raise UserError(f"{self.path}.{name} of the LeWM checkpoint is {value!r}; only {supported!r} is supported")

    def skip(self, *names: str) -> None:
        """Cross off options that change nothing in use."""
        for name in names:
            self.take(name, None)

    def end(self) -> None:
        """Raise UserError for options that are left."""
        if self.left:
            names = ", ".join(f"{self.path}.{name}" for name in self.left)
            raise UserError(f"options of the LeWM checkpoint that are not supported: {names}")


def _encoder(value: Any) -> dict[str, Any]:
    """Read the encoder's section: arguments of `vit_hf`, among them those of transformers' `ViTConfig`."""
    section = _Section("encoder", value, _ENCODERS)
    size = section.take("size", "tiny")
    if size not in _VIT_SIZES:
        raise UserError(f"encoder.size of the LeWM checkpoint is {size!r}; known: {', '.join(_VIT_SIZES)}")
    width, depth, heads = _VIT_SIZES[size]
    section.only("pretrained", False)
    section.only("hidden_act", "gelu")
    section.only("num_channels", 3)
    section.skip("use_mask_token", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
    section.skip("encoder_stride", "pooler_output_size", "pooler_act")
    read = {
        "image_size": section.size("image_size", 224),
        "patch_size": section.size("patch_size", 16),
        "width": section.size("hidden_size", width),
        "depth": section.size("num_hidden_layers", depth),
        "heads": section.size("num_attention_heads", heads),
        "mlp_size": section.size("intermediate_size", 4 * width),
        "norm_eps": float(section.take("layer_norm_eps", 1e-12)),
        "qkv_bias": bool(section.take("qkv_bias", True)),
    }
    section.end()
    return read


def _projector(name: str, value: Any) -> tuple[int, int, int] | None:
    """Read a projector's section and return its input, hidden and output size; None without one."""
    if value is None:
        return None
    section = _Section(name, value, _MLPS)
    _callable(f"{name}.norm_fn", section.take("norm_fn", "torch.nn.LayerNorm"), _BATCH_NORMS, "momentum")
    _callable(f"{name}.act_fn", section.take("act_fn", "torch.nn.GELU"), _GELUS)
    size = section.size("input_dim")
    found = size, section.size("hidden_dim"), section.size("output_dim", size, or_none=True)
    section.end()
    return found


def _callable(path: str, value: Any, supported: Collection[str], *harmless: str) -> None:
    """Raise UserError unless an option names a supported class: as text, `_partial_`, or Hydra's `get_class`."""
    options = dict(value) if isinstance(value, Mapping) else {"_target_": value}
    name = options.pop("_target_", None)
    if name in ("hydra.utils.get_class", "hydra.utils.get_method"):
        name = options.pop("path", None)
    unknown = set(options) - {*_HYDRA, *harmless}
    if name not in supported or unknown:
        text = f"{name!r} with {', '.join(sorted(unknown))}" if unknown else repr(name)
        raise UserError(f"{path} of the LeWM checkpoint is {text}; supported: {min(supported, key=len)}")


def _fit_projectors(projectors: list[tuple[int, int, int] | None], width: int, latent: int) -> int | None:
    """Return the projectors' hidden size, having checked that they fit each other and what is around them."""
    first, second = projectors
    if first is None or second is None:
        if first is not second:
            raise UserError("the LeWM checkpoint has one projector of two; supported: projector and pred_proj, or none")
        _fit("encoder.hidden_size", width, "predictor.input_dim", latent)
        return None
    _fit("projector.input_dim", first[0], "encoder.hidden_size", width)
    _fit("projector.output_dim", first[2], "predictor.input_dim", latent)
    _fit("pred_proj.input_dim", second[0], "predictor.output_dim", latent)
    _fit("pred_proj.output_dim", second[2], "projector.output_dim", latent)
    _fit("pred_proj.hidden_dim", second[1], "projector.hidden_dim", first[1])
    return first[1]


def _fit(name: str, value: int, other: str, expected: int) -> None:
    """Raise UserError unless two sizes are the same."""
    if value != expected:
        raise UserError(f"{name} of the LeWM checkpoint is {value} and {other} {expected}; supported: the same size")
