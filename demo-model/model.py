"""The network: a small Llama (RMSNorm, rotary positions, grouped-query attention, SwiGLU) as plain JAX functions.

Weights are a flat dictionary named as in GGUF, each matrix stored as (rows out, columns in), so that exporting is a
copy. Rotary positions pair neighbouring values (2i, 2i+1), which is what llama.cpp does for the `llama`
architecture; trained this way, Q and K need no permutation on export.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Every row length is a multiple of 32, so that all matrices fit Q8_0."""

    vocab: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 512
    context: int = 1024
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def init(shape: Shape, seed: int) -> dict[str, jax.Array]:
    """Fresh weights; the output matrix is the embedding (tied)."""
    rng = np.random.default_rng(seed)
    kv_width = shape.kv_heads * shape.head_dim

    def matrix(rows: int, columns: int, scale: float = 1.0) -> jax.Array:
        return jnp.asarray(rng.normal(0, scale * columns**-0.5, (rows, columns)), jnp.float32)

    weights = {
        "token_embd.weight": jnp.asarray(rng.normal(0, 0.02, (shape.vocab, shape.width)), jnp.float32),
        "output_norm.weight": jnp.ones(shape.width),
    }
    residual = (2 * shape.layers) ** -0.5
    for layer in range(shape.layers):
        weights |= {
            f"blk.{layer}.{name}.weight": value
            for name, value in {
                "attn_norm": jnp.ones(shape.width),
                "attn_q": matrix(shape.width, shape.width),
                "attn_k": matrix(kv_width, shape.width),
                "attn_v": matrix(kv_width, shape.width),
                "attn_output": matrix(shape.width, shape.width, residual),
                "ffn_norm": jnp.ones(shape.width),
                "ffn_gate": matrix(shape.hidden, shape.width),
                "ffn_up": matrix(shape.hidden, shape.width),
                "ffn_down": matrix(shape.width, shape.hidden, residual),
            }.items()
        }
    return weights


def rope_tables(shape: Shape, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines for positions 0..length, one column per pair of values."""
    frequency = shape.rope_base ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    angle = np.outer(np.arange(length), frequency)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotate (batch, position, head, value) by its position, neighbouring values as pairs."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def forward(weights: dict[str, jax.Array], tokens: jax.Array, shape: Shape) -> jax.Array:
    """Logits (batch, position, vocabulary) for tokens (batch, position)."""
    batch, length = tokens.shape
    cos, sin = rope_tables(shape, length)
    causal = np.tril(np.ones((length, length), bool))
    group = shape.heads // shape.kv_heads
    x = weights["token_embd.weight"][tokens]
    for layer in range(shape.layers):
        w = lambda name: weights[f"blk.{layer}.{name}.weight"]  # noqa: E731, B023
        h = rms_norm(x, w("attn_norm"), shape.norm_eps)
        q = rotate((h @ w("attn_q").T).reshape(batch, length, shape.heads, shape.head_dim), cos, sin)
        k = rotate((h @ w("attn_k").T).reshape(batch, length, shape.kv_heads, shape.head_dim), cos, sin)
        v = (h @ w("attn_v").T).reshape(batch, length, shape.kv_heads, shape.head_dim)
        q = q.reshape(batch, length, shape.kv_heads, group, shape.head_dim)
        score = jnp.einsum("bqkgd,bskd->bkgqs", q, k) * shape.head_dim**-0.5
        score = jax.nn.softmax(jnp.where(causal, score, -1e9), axis=-1)
        mixed = jnp.einsum("bkgqs,bskd->bqkgd", score, v).reshape(batch, length, shape.width)
        x = x + mixed @ w("attn_output").T
        h = rms_norm(x, w("ffn_norm"), shape.norm_eps)
        x = x + (jax.nn.silu(h @ w("ffn_gate").T) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    return rms_norm(x, weights["output_norm.weight"], shape.norm_eps) @ weights["token_embd.weight"].T
