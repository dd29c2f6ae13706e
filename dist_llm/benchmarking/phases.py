"""Where the time of a training step goes, measured from outside: the methods of live objects with a clock around them.

No layer, optimizer or communicator knows of it. A step calls some hundreds of these methods, which takes the clocks
a few tenths of a thousandth of its time.
"""

import time
from collections import defaultdict
from typing import Any

from dist_llm.data.loader import Loader
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.parallel.reduction import Reduction

# The phases of forward and backward; what the two need beyond them (residual connections) is their remainder.
INSIDE = ("embedding", "norms", "attention", "feed-forward", "loss")
REMAINDER = "residuals"
OUTSIDE = ("data", "reduction", "optimizer", "rest")  # rest: zeroing, metrics


class Phases:
    """Clocks on everything that takes part in a training step.

    Attributes
    ----------
    seconds : defaultdict
        By phase, since the last `reset`; ``forward`` and ``backward`` are those of the whole model.
    """

    def __init__(self, model: Llama, optimizer: AdamW, loader: Loader, reduction: Reduction) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._watch(model, "forward", "loss")
        self._watch(model, "backward", "loss_backward")
        self._watch(model.embed_tokens, "embedding", "forward", "backward")
        for layer in model.layers:
            self._watch(layer.input_layernorm, "norms", "forward", "backward")
            self._watch(layer.self_attn, "attention", "forward", "backward")
            self._watch(layer.post_attention_layernorm, "norms", "forward", "backward")
            self._watch(layer.mlp, "feed-forward", "forward", "backward")
        self._watch(model.norm, "norms", "forward", "backward")
        self._watch(model.loss_head, "loss", "forward", "backward")
        self._watch(reduction, "reduction", "reduce")
        self._watch(reduction, "update", "update")
        self._watch(optimizer, "optimizer", "step")
        self._watch(loader, "data", "batch")

    def _watch(self, owner: object, phase: str, *methods: str) -> None:
        for name in methods:
            setattr(owner, name, self._with_clock(getattr(owner, name), phase))

    def _with_clock(self, method: Any, phase: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = method(*args, **kwargs)
            self.seconds[phase] += time.perf_counter() - start
            return result

        return call

    def reset(self) -> None:
        """Set all clocks to zero."""
        self.seconds.clear()

    def of(self, total_s: float) -> dict[str, float]:
        """Return the seconds of each phase of `total_s` seconds; together they are those."""
        clocks = self.seconds
        phases: dict[str, float] = {phase: clocks[phase] for phase in INSIDE}
        phases[REMAINDER] = clocks["forward"] + clocks["backward"] - sum(phases.values())
        # The update is the optimizer's, and what the reduction does behind it.
        reduction = clocks["reduction"] + clocks["update"] - clocks["optimizer"]
        phases |= {"data": clocks["data"], "reduction": reduction, "optimizer": clocks["optimizer"]}
        phases["rest"] = total_s - sum(phases.values())
        return phases
