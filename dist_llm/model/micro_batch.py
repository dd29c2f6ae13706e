"""How many sequences a rank works on at once: a micro-batch.

Fewer tokens make matrix products less efficient, more only cost memory: from 512 on, a step of models of 0.8 to 42
million parameters is within a few percent of its best. With a large vocabulary the logits are what counts: those that
are more than a chunk of the loss head are computed twice.
"""

from dist_llm.config import Config
from dist_llm.model.loss_head import CHUNK_LOGITS

TOKENS = 512
LEAST_DEALT = 8  # micro-batches in a batch that are dealt out whole


def micro_batch_size(config: Config) -> int:
    """Return ``train.micro_batch_size``, or where that is none, what suits the model, whose vocabulary is known.

    Micro-batches of other sizes round differently. So it depends on the configuration only, never on machine or ranks.
    """
    train = config.train
    if train.micro_batch_size is not None:
        return train.micro_batch_size
    size = min(TOKENS, CHUNK_LOGITS // config.vocab_size) // config.model.max_seq_len
    if config.parallel.strategy == "deterministic":
        # The ranks then get whole micro-batches: there must be some for each.
        size = min(size, train.batch_size // LEAST_DEALT)
    return max(1, size)
