"""Looks up the embeddings."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize_on_alignment=["token_ids", "sources", "previous", "positions"])
def embed(
    token_ids,
    sources,
    previous,
    positions,
    embedding,
    position_embedding,
    out,
    HIDDEN_SIZE: tl.constexpr,
    PADDED_SIZE: tl.constexpr,
    HAS_PREVIOUS: tl.constexpr,
    HAS_POSITIONS: tl.constexpr,
):
    """out [tokens, HIDDEN_SIZE] = the embeddings; a token with a source is read from the last samples at that index."""
    token = tl.program_id(0)
    size = tl.arange(0, PADDED_SIZE)
    has_size = size < HIDDEN_SIZE
    token_id = tl.load(token_ids + token).to(tl.int64)
    if HAS_PREVIOUS:
        source = tl.load(sources + token)
        if source >= 0:
            token_id = tl.maximum(tl.load(previous + source).to(tl.int64), 0)  # negative: the row has ended
    states = tl.load(embedding + token_id * HIDDEN_SIZE + size, mask=has_size, other=0.0)
    if HAS_POSITIONS:
        position = tl.load(positions + token)
        has_position = has_size & (position >= 0)
        added = tl.load(position_embedding + position * HIDDEN_SIZE + size, mask=has_position, other=0.0)
        states = (states.to(tl.float32) + added.to(tl.float32)).to(states.dtype)
    tl.store(out + token * HIDDEN_SIZE + size, states, mask=has_size)
