"""The whole model, after LLaMA (Touvron et al. 2023, arXiv 2302.13971): embedding, blocks, norm, output projection."""

import copy
from collections.abc import Callable, Mapping

import numpy as np

from dist_llm.config import ModelConfig
from dist_llm.model.block import Block, Generators
from dist_llm.model.embedding import Embedding
from dist_llm.model.functional import dropout, dropout_backward
from dist_llm.model.layer import Cache, Observe, unobserved
from dist_llm.model.layers import PLAIN, Layers
from dist_llm.model.params import ParamStore
from dist_llm.model.rope import (
    precompute_freqs_cis,
    rotary_frequencies,
    scaled_frequencies,
    to_half_split,
    to_interleaved,
)

OnGradReady = Callable[[int], None]


def count_parameters(config: ModelConfig, vocab_size: int) -> int:
    """Return how many parameters a model has, without making it."""
    embeddings = vocab_size * config.dim * (1 if config.tie_embeddings else 2)
    return embeddings + count_hidden(config) + (2 * config.n_layers + 1) * config.dim


def count_hidden(config: ModelConfig) -> int:
    """Return how many of a model's parameters are in the matrices of its blocks."""
    kv_dim = config.dim // config.n_heads * (config.n_kv_heads or config.n_heads)
    attention = 2 * config.dim * config.dim + 2 * config.dim * kv_dim
    feed_forward = 3 * config.dim * config.ffn_dim
    return config.n_layers * (attention + feed_forward)


def count_tensors(config: ModelConfig) -> int:
    """Return how many tensors a model has: nine in each block, the embedding, the last norm, and a head of its own."""
    return 9 * config.n_layers + (2 if config.tie_embeddings else 3)


def half_split(state: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
    """Return tensors by name with the rows of q_proj and k_proj in Hugging Face's order instead of ours."""
    return {name: _reordered(name, array, config, to_half_split) for name, array in state.items()}


def _reordered(
    name: str, array: np.ndarray, config: ModelConfig, order: Callable[[np.ndarray, int], np.ndarray]
) -> np.ndarray:
    if name.endswith("q_proj.weight"):
        return order(array, config.n_heads)
    if name.endswith("k_proj.weight"):
        return order(array, config.n_kv_heads or config.n_heads)
    return array


def frequencies_of(config: ModelConfig) -> np.ndarray:
    """Return the angle of each pair of a head per position, scaled if the model is, float64 (Dh / 2,)."""
    frequencies = rotary_frequencies(config.dim // config.n_heads, config.rope_theta)
    if config.rope_scaling_factor == 1:
        return frequencies
    return scaled_frequencies(
        frequencies, config.rope_scaling_factor, config.rope_low_freq_factor, config.rope_high_freq_factor,
        config.rope_original_max_seq_len,
    )  # fmt: skip


class Llama:
    """A decoder-only Transformer with a hand-written backward pass.

    Parameters
    ----------
    config : ModelConfig
    vocab_size : int
        Rows of the embedding.
    dtype : dtype
        float32 trains; float64 serves the gradient checks.
    observe : Observe
        Is shown every layer, and may put a wrapper in its place that, for instance, takes its time.
    layers : Layers
        The classes to build of.

    Attributes
    ----------
    params : ParamStore
        Every parameter and gradient; zero until `params.initialize` or a checkpoint fills them.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        dtype: np.typing.DTypeLike = np.float32,
        observe: Observe = unobserved,
        layers: Layers = PLAIN,
    ) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.params = ParamStore()
        self.freqs_cis = precompute_freqs_cis(config.max_seq_len, frequencies_of(config), dtype)
        std = config.init_std
        # 2 * n_layers outputs are added up in the residual stream; scaled so, their sum keeps its size (GPT-2).
        out_std = 0.0 if config.zero_init else std / (2 * config.n_layers) ** 0.5
        self.embed_tokens = observe(
            "embedding", Embedding(self.params, "model.embed_tokens", vocab_size, config.dim, std)
        )
        self.layers = [
            Block(
                self.params,
                f"model.layers.{i}",
                dim=config.dim,
                n_heads=config.n_heads,
                n_kv_heads=config.n_kv_heads or config.n_heads,
                ffn_dim=config.ffn_dim,
                freqs_cis=self.freqs_cis,
                norm_eps=config.norm_eps,
                dropout=config.dropout,
                init_std=std,
                out_std=out_std,
                observe=observe,
                layers=layers,
            )
            for i in range(config.n_layers)
        ]
        self.norm = observe("norms", layers.norm(self.params, "model.norm", config.dim, config.norm_eps))
        if config.tie_embeddings:
            output = self.embed_tokens.weight
        else:
            output = self.params.declare("lm_head.weight", (vocab_size, config.dim), "head", std)
        self.loss_head = observe("loss", layers.loss_head(output))
        self.params.allocate(dtype)

    def __repr__(self) -> str:
        """Say the shape, and how many parameters there are."""
        c = self.config
        kv = f" ({c.n_kv_heads} for keys and values)" if c.n_kv_heads not in (None, c.n_heads) else ""
        return (
            f"Llama({self.params.size:,} parameters: dim {c.dim}, {c.n_layers} layers, {c.n_heads} heads{kv}, "
            f"ffn {c.ffn_dim}, vocabulary {self.vocab_size}, context {c.max_seq_len})"
        )

    def state_dict(self, data: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return every tensor by name, as Hugging Face's Llama has it: rotary pairs in q_proj and k_proj half-split.

        Parameters
        ----------
        data : ndarray of shape (P,), optional
            Other values of all parameters, in the order of memory.
        """
        return half_split(self.params.state_dict(data), self.config)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the values of all tensors from what `state_dict` returned.

        Raises
        ------
        UserError
            The tensors are those of another model.
        """
        self.params.load_state_dict(state, lambda name, array: _reordered(name, array, self.config, to_interleaved))

    def forward(self, tokens: np.ndarray, rngs: Generators = None) -> tuple[np.ndarray, Cache]:
        """Map tokens to the last hidden states.

        Parameters
        ----------
        tokens : ndarray of int, shape (B, T)
            T at most ``max_seq_len``.
        rngs : list of numpy.random.Generator, optional
            One per sequence; given, dropout is on.

        Returns
        -------
        h : ndarray of shape (B, T, D)
        cache : tuple
        """
        x, embedding = self.embed_tokens.forward(tokens)
        x, mask = dropout(x, self.config.dropout, rngs)
        blocks = []
        for layer in self.layers:
            # To be computed again, with generators that draw the same once more.
            again = (x, copy.deepcopy(rngs)) if self.config.recompute else None
            x, block = layer.forward(x, rngs)
            blocks.append(again or block)
            del block  # or it would still be there while the next block fills another
        h, norm = self.norm.forward(x)
        return h, (embedding, mask, blocks, norm)

    def backward(self, dh: np.ndarray, cache: Cache, on_grad_ready: OnGradReady = lambda offset: None) -> None:
        """Add the gradients of all parameters but the output projection, given dh of shape (B, T, D).

        Parameters
        ----------
        on_grad_ready : callable, optional
            Called, as the pass proceeds, with an offset in the flat buffer: every gradient at or after it is final.
        """
        embedding, mask, blocks, norm = cache
        dx = self.norm.backward(dh, norm)
        on_grad_ready(self.norm.gain.offset)
        for layer, block in zip(reversed(self.layers), reversed(blocks), strict=True):
            if self.config.recompute:
                _, block = layer.forward(*block)
            dx = layer.backward(dx, block)
            on_grad_ready(layer.input_layernorm.gain.offset)
        dx = dropout_backward(dx, mask)
        self.embed_tokens.backward(dx, embedding)
        on_grad_ready(0)

    def loss(self, tokens: np.ndarray, targets: np.ndarray, rngs: Generators = None) -> tuple[float, Cache]:
        """Return the cross-entropy summed over all predictions that have a target, in nats.

        Parameters
        ----------
        tokens, targets : ndarray of int, shape (B, T)
            ``targets[:, t]`` is the token that follows ``tokens[:, t]``, or -1 where the prediction does not count.
        rngs : list of numpy.random.Generator, optional
            As for `forward`.
        """
        h, body = self.forward(tokens, rngs)
        loss, head = self.loss_head.forward(h, targets)
        return loss, (body, head)

    def loss_backward(self, dloss: float, cache: Cache, on_grad_ready: OnGradReady = lambda offset: None) -> None:
        """Add ``dloss`` times the gradient of `loss` to those of all parameters; `on_grad_ready` as for `backward`."""
        body, head = cache
        dh = self.loss_head.backward(dloss, head)
        self.backward(dh, body, on_grad_ready)

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits of the next token at every position: int (B, T) to (B, T, V)."""
        h, _ = self.forward(tokens)
        return h @ self.loss_head.weight.data.T

    def decode(self, tokens: np.ndarray, start: int, kv_cache: np.ndarray) -> np.ndarray:
        """Return the logits (B, V) after t new tokens that follow ``start`` cached ones.

        Parameters
        ----------
        tokens : ndarray of int, shape (B, t)
        start : int
            Positions already in `kv_cache`; start + t at most ``max_seq_len``.
        kv_cache : ndarray of shape (n_layers, 2, B, K, max_seq_len, Dh)
            Keys and values of the positions so far, to which those of the new ones are added.
        """
        x, _ = self.embed_tokens.forward(tokens)
        for layer, layer_cache in zip(self.layers, kv_cache, strict=True):
            x = layer.decode(x, start, layer_cache)
        h, _ = self.norm.forward(x[:, -1])
        return h @ self.loss_head.weight.data.T
