"""The classes that a model is built of: those of this room, or others that do the same, such as compiled ones."""

from typing import NamedTuple

from dist_llm.model.attention import Attention
from dist_llm.model.loss_head import LossHead
from dist_llm.model.rmsnorm import RMSNorm
from dist_llm.model.swiglu import SwiGLU


class Layers(NamedTuple):
    """A class for each layer."""

    norm: type[RMSNorm] = RMSNorm
    attention: type[Attention] = Attention
    feed_forward: type[SwiGLU] = SwiGLU
    loss_head: type[LossHead] = LossHead


PLAIN = Layers()
