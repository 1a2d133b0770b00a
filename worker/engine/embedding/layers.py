"""Builds what follows the transformer: pooling, dense layers, normalization. All compute in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.encoder import Dense, Layer, Normalize, Pool, Pooling
from models.errors import EncoderError

# Takes the vectors of the tokens (batch, length, width) and the mask (batch, length; 1: a token, 0: padding).
PoolTokens = Callable[[Tensor, Tensor], Tensor]


def pooling_of(layer: Layer) -> PoolTokens:
    """Return the function of the first layer."""
    if not isinstance(layer, Pooling):
        raise TypeError(layer)
    return partial(_joined, [_POOLS[mode] for mode in layer.modes])


def module_of(layer: Layer) -> nn.Module:
    """Return a later layer.

    Raises:
        EncoderError: its weights cannot be read, or its activation is not known.
    """
    return _dense(layer) if isinstance(layer, Dense) else Normalized()


def shortened(vectors: Tensor, layers: Sequence[Layer], dimensions: int | None) -> Tensor:
    """Return the first `dimensions` numbers of each vector; of length 1 if the whole vectors are."""
    if dimensions is None:
        return vectors
    short = vectors[..., :dimensions]
    return nn.functional.normalize(short, dim=-1) if isinstance(layers[-1], Normalize) else short


class Normalized(nn.Module):
    """Divides each vector by its length."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return vectors of length 1."""
        return nn.functional.normalize(vectors, dim=-1)


def _dense(layer: Dense) -> nn.Module:
    try:
        weights = load_file(layer.folder / "model.safetensors")
        matrix = weights["linear.weight"].float()
    except (OSError, KeyError) as err:
        raise EncoderError(f"{str(layer.folder)!r} has no model.safetensors with linear.weight.") from err
    linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias="linear.bias" in weights)
    linear.load_state_dict({name.removeprefix("linear."): value.float() for name, value in weights.items()})
    return nn.Sequential(linear, _activation(layer)) if layer.activation else linear


def _activation(layer: Dense) -> nn.Module:
    package, _, name = layer.activation.rpartition(".")
    kind = getattr(nn, name, None)
    if not package.startswith("torch.nn") or not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise EncoderError(f"The activation {layer.activation!r} of {str(layer.folder)!r} is none of torch's.")
    return kind()


def _joined(pools: Sequence[PoolTokens], tokens: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([pool(tokens, mask) for pool in pools], dim=-1)


def _cls(tokens: Tensor, _mask: Tensor) -> Tensor:
    return tokens[:, 0]


def _last(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens[torch.arange(len(tokens), device=tokens.device), mask.sum(1) - 1]


def _max(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens.masked_fill(mask[..., None] == 0, float("-inf")).amax(1)


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    return _sum(tokens, mask) / mask.sum(1, keepdim=True)


def _mean_sqrt(tokens: Tensor, mask: Tensor) -> Tensor:
    return _sum(tokens, mask) / mask.sum(1, keepdim=True).sqrt()


def _weighted(tokens: Tensor, mask: Tensor) -> Tensor:
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _sum(tokens, weights) / weights.sum(1, keepdim=True)


def _sum(tokens: Tensor, weights: Tensor) -> Tensor:
    return (tokens * weights[..., None]).sum(1)


_POOLS: dict[Pool, PoolTokens] = {
    Pool.CLS: _cls,
    Pool.LAST: _last,
    Pool.MAX: _max,
    Pool.MEAN: _mean,
    Pool.MEAN_SQRT: _mean_sqrt,
    Pool.WEIGHTED: _weighted,
}
