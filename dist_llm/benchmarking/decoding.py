"""Generation with a KV cache, a token at a time and always the likeliest: here and in PyTorch.

Both have room for the whole context from the beginning, and fill it from the same first token in every turn.
"""

from typing import Any

import numpy as np

from dist_llm.benchmarking.turn import Job, Warm, initial_model, timed
from dist_llm.inference.kv_cache import new_kv_cache
from dist_llm.model.llama import Llama
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.placement import place

FIRST_TOKEN = 1


def make_numpy(job: Job) -> Warm:
    """Build our model, which fills a context in each turn."""
    keep_freed_memory()
    placement = place(SerialComm(), job.threads)
    model, length = initial_model(job.config), job.config.model.max_seq_len

    def fill() -> list[int]:
        cache, tokens = new_kv_cache(model), [FIRST_TOKEN]
        for position in range(length - 1):
            logits = model.decode(np.array([[tokens[-1]]]), position, cache)
            tokens.append(int(logits[0].argmax()))
        return tokens

    fill()
    return f"{length - 1} tokens, {placement.blas}", lambda: timed(fill, 1, length - 1)


def make_torch(job: Job) -> Warm:
    """Build the baseline, which does the same."""
    import torch

    keep_freed_memory()
    torch.set_num_threads(job.threads)
    decoder = TorchDecoder(initial_model(job.config))
    decoder.fill()
    amount = job.config.model.max_seq_len - 1
    return f"{amount} tokens, torch {torch.__version__}", lambda: timed(decoder.fill, 1, amount)


class TorchDecoder:
    """The independent PyTorch model, with the weights of ours and a KV cache.

    What it computes per token is as little as PyTorch allows: preallocated caches, rotary tables made once, turned as
    complex numbers, and no autograd.
    """

    def __init__(self, model: Llama) -> None:
        import torch

        from dist_llm.baselines.torch_llama import TorchLlama

        c = model.config
        self._torch, self._config = torch, c
        self._baseline = TorchLlama(c, model.vocab_size)
        with torch.no_grad():
            for name, parameter in self._baseline.named_parameters():
                parameter.copy_(torch.from_numpy(model.params[name].data))
        self._freqs_cis = torch.from_numpy(model.freqs_cis)

    def fill(self) -> list[int]:
        """Generate a whole context, and return its tokens."""
        torch, c = self._torch, self._config
        shape = (1, c.n_kv_heads or c.n_heads, c.max_seq_len, c.dim // c.n_heads)
        caches = [(torch.empty(shape), torch.empty(shape)) for _ in range(c.n_layers)]
        tokens = [FIRST_TOKEN]
        with torch.inference_mode():
            for position in range(c.max_seq_len - 1):
                logits = self._decode(torch.tensor([tokens[-1]]), position, caches)
                tokens.append(int(logits.argmax()))
        return tokens

    def _decode(self, token: Any, position: int, caches: list[tuple[Any, Any]]) -> Any:
        F = self._torch.nn.functional
        body = self._baseline.model
        x = body.embed_tokens(token)  # (1, D)
        for layer, (keys, values) in zip(body.layers, caches, strict=True):
            attention, h = layer.self_attn, layer.input_layernorm(x)
            q = self._turn(attention.q_proj(h), position)  # (1, H, Dh)
            keys[:, :, position] = self._turn(attention.k_proj(h), position)
            values[:, :, position] = attention.v_proj(h).view(1, -1, attention.head_dim)
            k, v = keys[:, :, : position + 1], values[:, :, : position + 1]
            o = F.scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=k.shape[1] < q.shape[1])
            x = x + attention.o_proj(o.reshape(1, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        output = body.embed_tokens if self._baseline.lm_head is None else self._baseline.lm_head
        return F.linear(body.norm(x), output.weight)

    def _turn(self, x: Any, position: int) -> Any:
        """(1, H * Dh) -> (1, H, Dh), turned."""
        torch, Dh = self._torch, 2 * self._freqs_cis.shape[1]
        pairs = torch.view_as_complex(x.view(1, -1, Dh // 2, 2)) * self._freqs_cis[position]
        return torch.view_as_real(pairs).flatten(-2)
