"""Compile all kernels of the transformer's rollout at the paper's size; print what they take, as JSON.

Arguments: compute capability, multiprocessors, bytes of shared memory, dtype.
"""

import json
import sys

import torch
from ahead_of_time import compiled, recorded
from torch import nn

from wmkit.models.fused import transformer, transformer_kernels
from wmkit.models.fused.transformer_launch import Machine
from wmkit.models.lewm.transformer import TransformerPredictor

capability, processors, shared_memory = map(int, sys.argv[1:4])
dtype = getattr(torch, sys.argv[4])
transformer.why_not = lambda device: None
predictor = TransformerPredictor(latent_size=192, block_size=10, history=3, depth=2)
projector = nn.Sequential(nn.Linear(192, 2048), nn.BatchNorm1d(2048), nn.GELU(), nn.Linear(2048, 192))
fused = transformer.FusedTransformer(predictor, projector.eval(), dtype)
fused._machine = Machine(processors, shared_memory, capability // 10, dtype)
fused._kernels, launches = recorded(transformer_kernels, transformer_kernels.__all__)
with torch.no_grad():
    fused(torch.zeros(1, 3, 192), torch.zeros(1, 2, 10), torch.zeros(1, 300, 1, 10))
results = []
for launch in launches.values():
    kernel = compiled(launch, capability)
    text = kernel.asm["ptx"]
    tensor = sum(text.count(name) for name in ("wgmma.mma_async", "mma.sync"))
    results.append({"name": launch[0].__name__, "shared": kernel.metadata.shared, "tensor": tensor})
sys.stdout.write(json.dumps(results))
