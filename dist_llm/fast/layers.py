"""The layers of this room, as a model is built of them: with products of bfloat16 numbers, and of float32 numbers."""

from dist_llm.fast.attention import Attention
from dist_llm.fast.instructions import SINGLES
from dist_llm.fast.linear import Linear
from dist_llm.fast.loss_head import LossHead
from dist_llm.fast.rmsnorm import RMSNorm
from dist_llm.fast.swiglu import SwiGLU
from dist_llm.model.layers import Layers


class _Float32Linear(Linear):
    kind = SINGLES


class _Float32Attention(Attention):
    linear = _Float32Linear


class _Float32SwiGLU(SwiGLU):
    linear = _Float32Linear


class _Float32LossHead(LossHead):
    kind = SINGLES


LAYERS = {
    "bfloat16": Layers(RMSNorm, Attention, SwiGLU, LossHead),
    "float32-compiled": Layers(RMSNorm, _Float32Attention, _Float32SwiGLU, _Float32LossHead),
}
