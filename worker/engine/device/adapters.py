"""Adapters on a device: where their matrices belong in a model, and their products in torch operations.

Every adapter has a slot, a small number; slot 0 is none. The base's weights are not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.adapter.config import MERGE_ADVICE
from worker.engine.checkpoints.architecture import Architecture, Layer, Linear
from worker.engine.lora import AdapterWeights, LoraMatrices
from worker.engine.model_runner import UnsupportedAdapter

NO_ADAPTER = 0  # slot
HEAD = "lm_head"  # the module's name also where its weight is the embedding's


class Site(IntEnum):
    """A matrix of a layer, as the runner joins them."""

    QUERY_KEY_VALUE = 0
    ATTENTION_OUTPUT = 1
    MLP_INPUT = 2
    MLP_OUTPUT = 3

    def of_layer(self, layer: int) -> int:
        """Return the index of this matrix in the model; the one after the last layer's is the head."""
        return layer * len(Site) + self


class AdapterTokens(NamedTuple):
    """Consecutive tokens of a step with the same adapter."""

    slot: int
    tokens: slice


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module is in the model's joined matrices."""

    site: int  # index of the matrix
    part: int  # of the matrix: query, key, value; or gate, up
    begin: int  # first row
    end: int
    columns: int


@dataclass(frozen=True, slots=True)
class Product:
    """What an adapter adds to some columns of a matrix's output [tokens, rows of the matrix]."""

    columns: slice
    down: Tensor  # [rank, in]; of an embedding [tokens, rank]
    up: Tensor  # [columns, rank]

    def add_to(self, y: Tensor, x: Tensor) -> None:
        """Add the product for x [tokens, in] to y [tokens, rows of the matrix]."""
        y[:, self.columns] += functional.linear(functional.linear(x, self.down), self.up)

    def add_embedded(self, y: Tensor, indices: Tensor) -> None:
        """Add the product for entries [tokens] of an embedding to y [tokens, hidden_size]."""
        y += functional.linear(functional.embedding(indices, self.down), self.up)


@dataclass(slots=True)
class EmbeddingProducts:
    """What an adapter adds to the embeddings; None: nothing."""

    tokens: Product | None
    positions: Product | None

    def __bool__(self) -> bool:
        return self.tokens is not None or self.positions is not None

    @property
    def num_bytes(self) -> int:
        """Size of the matrices in bytes."""
        return num_bytes(product for product in (self.tokens, self.positions) if product is not None)

    def add_to(self, states: Tensor, token_ids: Tensor, positions: Tensor) -> None:
        """Add them to the embeddings of tokens [tokens] at positions [tokens]."""
        if self.tokens is not None:
            self.tokens.add_embedded(states, token_ids)
        if self.positions is not None:
            self.positions.add_embedded(states, positions.clamp(min=0))


class TorchAdapter:
    """An adapter as products in torch operations, by the index of the matrix."""

    def __init__(self, products: dict[int, list[Product]], embeddings: EmbeddingProducts) -> None:
        self.products = products
        self.embeddings = embeddings
        self.num_bytes = embeddings.num_bytes + num_bytes(one for part in products.values() for one in part)

    def close(self) -> None:
        """As `PreparedAdapter.close`."""
        self.products.clear()
        self.embeddings = EmbeddingProducts(None, None)

    def add_to(self, site: int, y: Tensor, x: Tensor) -> None:
        """Add its products to a matrix's output y [tokens, rows] for the inputs x [tokens, columns]."""
        for product in self.products.get(site, ()):
            product.add_to(y, x)


def num_bytes(products: Iterable[Product]) -> int:
    """Return the size of all matrices in bytes."""
    return sum(product.down.nbytes + product.up.nbytes for product in products)


def runs_of(slots: Sequence[int]) -> list[AdapterTokens]:
    """Return the runs of consecutive tokens with the same adapter.

    Args:
        slots: of each token.
    """
    runs = []
    for slot, group in groupby(enumerate(slots), key=lambda item: item[1]):
        tokens = [token for token, _ in group]
        if slot != NO_ADAPTER:
            runs.append(AdapterTokens(slot, slice(tokens[0], tokens[-1] + 1)))
    return runs


def head_site(parts: Architecture) -> int:
    """Return the index of the head among the model's matrices."""
    return len(parts.layers) * len(Site)


def torch_adapter(weights: AdapterWeights, parts: Architecture, *, context_length: int, like: Tensor) -> TorchAdapter:
    """Copy an adapter to the device and into the number format of a tensor. Raises `UnsupportedAdapter`."""
    products = {
        site: [Product(slice(place.begin, place.end), one.a.to(like), one.b.to(like)) for place, one in matrices]
        for site, matrices in by_site(weights, parts).items()
    }
    return TorchAdapter(products, embedding_products(weights, parts, context_length=context_length, like=like))


def by_site(weights: AdapterWeights, parts: Architecture) -> dict[int, list[tuple[Place, LoraMatrices]]]:
    """Return the matrices of linear layers by the index of the joined matrix. Raises `UnsupportedAdapter`."""
    places = _places(parts)
    found: dict[int, list[tuple[Place, LoraMatrices]]] = {}
    for name, matrices in weights.modules.items():
        place = places.get(name)
        if place is None:
            raise UnsupportedAdapter(f"The adapter changes {name}, which is not a linear layer. {MERGE_ADVICE}")
        _check_shape(name, matrices, place.columns, place.end - place.begin)
        found.setdefault(place.site, []).append((place, matrices))
    return found


def embedding_products(
    weights: AdapterWeights, parts: Architecture, *, context_length: int, like: Tensor
) -> EmbeddingProducts:
    """Copy an adapter's matrices of embeddings, as `torch_adapter`. Raises `UnsupportedAdapter`."""
    sizes = {parts.embedding: parts.vocab_size}
    if parts.position_embedding is not None:
        sizes[parts.position_embedding] = context_length  # the table may have more
    found: dict[str, Product] = {}
    for name, matrices in weights.embeddings.items():
        if name not in sizes:
            raise UnsupportedAdapter(f"The adapter changes {name}, which is not an embedding. {MERGE_ADVICE}")
        used = LoraMatrices(matrices.a[:, : sizes[name]], matrices.b)
        _check_shape(name, used, sizes[name], parts.hidden_size)
        found[name] = Product(slice(None), used.a.T.contiguous().to(like), used.b.to(like))
    return EmbeddingProducts(found.get(parts.embedding), found.get(parts.position_embedding or ""))


def resolved_token_ids(token_ids: Tensor, sources: Tensor, previous: Tensor | None) -> Tensor:
    """Return the tokens [tokens], of which those with a source are among the last samples `previous` [samples]."""
    if previous is None:
        return token_ids
    sampled = previous[sources.clamp(min=0)].clamp(min=0).to(token_ids.dtype)
    return torch.where(sources < 0, token_ids, sampled)


def linears_of(layer: Layer) -> dict[Site, Linear]:
    """Return the matrices of a layer."""
    linears = (layer.query_key_value, layer.attention_output, layer.mlp_input, layer.mlp_output)
    return dict(zip(Site, linears, strict=True))


def _places(parts: Architecture) -> Mapping[str, Place]:
    """Return the place of every linear module by its name."""
    head = head_site(parts)
    places = {HEAD: Place(head, 0, 0, parts.vocab_size, parts.hidden_size)}
    for index, layer in enumerate(parts.layers):
        for site, linear in linears_of(layer).items():
            places |= _places_of(linear, site.of_layer(index), rows_of_parts(linear, site, parts))
    return places


def rows_of_parts(linear: Linear, site: Site, parts: Architecture) -> list[int]:
    """Return the number of rows of each module of a matrix."""
    if site is Site.QUERY_KEY_VALUE and len(linear.modules) > 1:
        return [heads * parts.head_size for heads in (parts.num_heads, parts.num_kv_heads, parts.num_kv_heads)]
    return [linear.rows // len(linear.modules)] * len(linear.modules)


def _places_of(linear: Linear, site: int, sizes: list[int]) -> dict[str, Place]:
    ends = list(accumulate(sizes))
    return {
        module: Place(site, part, end - size, end, linear.columns)
        for part, (module, size, end) in enumerate(zip(linear.modules, sizes, ends, strict=True))
    }


def _check_shape(name: str, matrices: LoraMatrices, num_in: int, num_out: int) -> None:
    """Raise `UnsupportedAdapter` if the matrices do not fit: the adapter's check cannot see how a weight is stored."""
    found = matrices.a.shape[1], matrices.b.shape[0]
    if found != (num_in, num_out):
        raise UnsupportedAdapter(
            f"The adapter's matrices of {name} map {found[0]} to {found[1]} numbers; the model's layer maps {num_in} "
            f"to {num_out}."
        )
