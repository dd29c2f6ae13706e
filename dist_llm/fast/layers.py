"""The layers of this room, as a model is built of them."""

from dist_llm.fast.attention import Attention
from dist_llm.fast.loss_head import LossHead
from dist_llm.fast.rmsnorm import RMSNorm
from dist_llm.fast.swiglu import SwiGLU
from dist_llm.model.layers import Layers

FAST = Layers(RMSNorm, Attention, SwiGLU, LossHead)
