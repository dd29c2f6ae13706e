"""What was measured, by one study or by several: all that a report is made from, and the part of its JSON to merge."""

from dataclasses import dataclass, field

from dist_llm.config import Config
from dist_llm.measuring.confidence import FEWEST
from dist_llm.measuring.peak import Peak
from dist_llm.model.llama import count_hidden, count_parameters
from dist_llm.optim.registry import OPTIMIZERS
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.parallel.strategy import Traffic
from dist_llm.parallel.topology import Topology
from dist_llm.scalability.learning_run import LearningRun
from dist_llm.scalability.operations import Timings
from dist_llm.scalability.points import Series
from dist_llm.scalability.runs import Run


@dataclass(frozen=True)
class Method:
    """How much is measured, and how."""

    repeats: int  # rounds, at the least
    steps: int  # in a run at the least, behind the warm-up
    seconds: float  # likewise
    patience_s: float  # how long it may go on for what was disturbed, and for narrower intervals
    width: float = 0.02  # of the 95 % interval of an efficiency: what is narrower is good enough
    launcher: str = "no launcher"


THOROUGH, QUICK = Method(FEWEST, 5, 3.0, 600.0), Method(FEWEST, 2, 1.0, 60.0)


@dataclass(frozen=True)
class LossTarget:
    """A validation loss, and the batches that are to come to it."""

    loss: float
    series: list[Series]  # a strong one for each batch size


@dataclass
class Measurements:
    """What was to be measured, how, and what came of it."""

    config: Config  # with data.shards and model.vocab_size
    series: list[Series]
    weak_sequences: int  # of each rank
    cores: int  # usable on all hosts together
    method: Method
    runs: list[Run] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # points whose job failed, and why
    peaks: list[Peak] = field(default_factory=list)  # of this host, before each round
    timings: dict[int, Timings] = field(default_factory=dict)  # of the strategy's operation, by ranks
    interrupted: bool = False  # with something to report all the same
    to_loss: LossTarget | None = None
    learned: list[LearningRun] = field(default_factory=list)  # of each batch size that is to come to a loss

    @property
    def seq_len(self) -> int:
        """Tokens of a sequence."""
        return self.config.model.max_seq_len

    @property
    def parameters(self) -> int:
        """How many the model has."""
        return count_parameters(self.config.model, self.config.vocab_size)

    @property
    def gathered_bytes(self) -> int:
        """What all ranks hand each other in a step, of the updates that they share out: Muon's, of all matrices."""
        shared = OPTIMIZERS[self.config.optim.optimizer]["hidden"].whole_tensors
        replicated = STRATEGIES[self.config.parallel.strategy].load().replicated
        return 4 * count_hidden(self.config.model) if shared and replicated else 0

    def traffic(self, topology: Topology) -> Traffic:
        """Return what a step sends."""
        strategy = STRATEGIES[self.config.parallel.strategy].load()
        return strategy.traffic(self.config.parallel, self.parameters, topology)
