"""A recurrent predictor: a stack of gated recurrent units (GRU; Cho et al., 2014, arXiv 1406.1078) over the latents."""

import torch
from torch import Tensor, nn

from ..packed import PackedLinear, packed_projector

__all__ = ["FastGRU", "GRUPredictor"]


class GRUPredictor(nn.Module):
    """Next latent = latent + linear(hidden state), the hidden state having read all latents and actions so far.

    Its memory is empty before the first latent that it is given, so how long a context is matters. In a rollout nothing
    is forgotten: the window is not cut to the model's history. An untrained predictor says that nothing moves.

    Args:
        latent_size: D.
        block_size: A.
        history: T, the longest context; not used.
        width: of each layer's hidden state.
        depth: layers.
        dropout: rate between layers and before the last one, in training alone.
        image_size: S; not used.

    Attributes:
        carries: the memory reaches back to the first latent given: whoever rolls out step by step passes them all.
    """

    carries = True

    def __init__(
        self,
        *,
        latent_size: int,
        block_size: int,
        history: int = 1,
        width: int = 512,
        depth: int = 1,
        dropout: float = 0.0,
        image_size: int = 0,
    ) -> None:
        super().__init__()
        between = dropout if depth > 1 else 0.0
        self.gru = nn.GRU(latent_size + block_size, width, depth, batch_first=True, dropout=between)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width, latent_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the next latent after every position: latents (M, T, D), actions (M, T, A) to (M, T, D)."""
        hidden, _ = self.gru(torch.cat([latents, actions], dim=-1))
        return latents + self.last(self.drop(hidden))

    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the latent (M, D) after the last position of latents (M, T, D) and actions (M, T, A)."""
        hidden, _ = self.gru(torch.cat([latents, actions], dim=-1))
        return latents[:, -1] + self.last(self.drop(hidden[:, -1]))


class FastGRU:
    """Rolls candidates out under a `GRUPredictor` without gradients; equal to `step` on ever longer sequences.

    Each step reads one latent, the states being kept; what the first layer makes of all actions is computed at once,
    and what the candidates of a context share is computed once for all of them.

    Args:
        predictor: whose weights are taken, as they are now.
        projector: applied to each prediction, in evaluation mode.
        dtype: of the matrix products; None takes that of the weights. The states have that of the latents.
    """

    def __init__(self, predictor: GRUPredictor, projector: nn.Module, dtype: torch.dtype | None) -> None:
        gru, last = predictor.gru, predictor.last
        named = dict(gru.named_parameters())
        latents, actions = named["weight_ih_l0"].split([last.out_features, gru.input_size - last.out_features], dim=1)
        self._width = gru.hidden_size
        self._latents = PackedLinear(latents, None, dtype)
        self._actions = PackedLinear(actions, named["bias_ih_l0"], dtype)
        layers = range(gru.num_layers)
        self._deeper = [PackedLinear(named[f"weight_ih_l{i}"], named[f"bias_ih_l{i}"], dtype) for i in layers[1:]]
        self._recurrent = [PackedLinear(named[f"weight_hh_l{i}"], named[f"bias_hh_l{i}"], dtype) for i in layers]
        self._last = PackedLinear(last.weight, last.bias, dtype)
        self._project = packed_projector(projector, dtype)

    def __call__(self, latents: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Roll out latents (B, T, D), normalised past (B, T-1, A) and actions (B, N, H, A) to (B, N, H, D)."""
        latent = latents[:, :1]
        states = [latents.new_zeros(len(latents), 1, self._width)] * len(self._recurrent)
        for step, driven in enumerate(self._actions(past.unsqueeze(1)).unbind(2)):
            states = self._advance(latent, driven, states)
            latent = latents[:, step + 1 : step + 2]
        predicted = []
        for driven in self._actions(actions).unbind(2):
            states = self._advance(latent, driven, states)
            moved = latent + self._last(states[-1]).to(latent.dtype)
            latent = self._project(moved.flatten(0, 1)).to(latent.dtype).unflatten(0, moved.shape[:2])
            predicted.append(latent)
        return torch.stack(predicted, dim=2)

    def _advance(self, latent: Tensor, driven: Tensor, states: list[Tensor]) -> list[Tensor]:
        """Return the layers' states (B, N, W) after one more latent (B, N, D); N is 1 where candidates share them.

        Args:
            latent: the next one.
            driven: (B, N, 3 * W), what the first layer makes of the action that follows it.
            states: of the layers, before.
        """
        driven = driven.to(latent.dtype) + self._latents(latent).to(latent.dtype)
        result = []
        for layer, (state, recurrent) in enumerate(zip(states, self._recurrent, strict=True)):
            if layer > 0:
                driven = self._deeper[layer - 1](result[-1]).to(latent.dtype)
            result.append(_gated(driven, recurrent(state).to(latent.dtype), state))
        return result


def _gated(driven: Tensor, recalled: Tensor, state: Tensor) -> Tensor:
    """Return the state (..., W) after the one given, from what inputs and state add to the gates, both (..., 3 * W)."""
    (reset, update, new), (other_reset, other_update, recall) = driven.chunk(3, dim=-1), recalled.chunk(3, dim=-1)
    new = torch.tanh(new + torch.sigmoid(reset + other_reset) * recall)
    return torch.lerp(new, state, torch.sigmoid(update + other_update))
