"""Compile kernels for a GPU that need not be there: Triton carries its own assembler.

`recorded` stands for a module of kernels and keeps what each would be launched with; `compiled` makes machine code of
it. Triton must not be interpreting, so this runs in a process of its own, with TRITON_INTERPRET=0.
"""

from types import ModuleType, SimpleNamespace

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64", bool: "i1", float: "fp32"}
_OPTIONS = ("num_warps", "num_stages")


class _Launches:
    def __init__(self, kernel, launches):
        self._kernel, self._launches = kernel, launches

    def __getitem__(self, grid):
        return self._record

    def _record(self, *arguments, **keywords):
        options = {name: keywords.pop(name) for name in _OPTIONS if name in keywords}
        values = {**dict(zip(self._kernel.arg_names, arguments, strict=False)), **keywords}
        fixed = {parameter.name for parameter in self._kernel.params if parameter.is_constexpr}
        signature, constants, attributes = {}, {}, {}
        for number, parameter in enumerate(self._kernel.params):
            name, value = parameter.name, values[parameter.name]
            if name in fixed or (type(value) is int and value == 1 and not parameter.do_not_specialize):
                signature[name], constants[name] = "constexpr", value
                continue
            signature[name] = _TYPES.get(getattr(value, "dtype", type(value)), "i32")
            if isinstance(value, torch.Tensor) or (value % 16 == 0 and not parameter.do_not_specialize):
                attributes[(number,)] = [["tt.divisibility", 16]]
        key = self._kernel.__name__, repr(signature), repr(constants), repr(options)
        self._launches.setdefault(key, (self._kernel, signature, constants, attributes, options))


def recorded(module: ModuleType, names):
    """Return what stands for a module, and the launches, filled while its kernels are called."""
    launches = {}
    return SimpleNamespace(**{name: _Launches(getattr(module, name), launches) for name in names}), launches


def compiled(launch, capability: int):
    """Return the compiled kernel, with `asm` and `metadata`, of a launch for a compute capability such as 90."""
    kernel, signature, constants, attributes, options = launch
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
