"""The precision of a run's matrix products: what was asked for, as far as every rank is able to."""

from dist_llm.config import Config
from dist_llm.fast.selection import COMPILED, compile_for, layers_of, missing
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.hosts import first_of_host


def settled(config: Config, comm: Comm) -> Config:
    """Return the configuration with a precision that all ranks have, and are ready for; collective.

    Raises
    ------
    UserError
        A rank lacks what the precision needs.
    """
    wanted = config.model.precision
    if wanted == "float32":
        return config
    if wanted == "auto":
        able = [name for name in COMPILED if not any(comm.allgather(missing(name)))]
        wanted = able[0] if able else "float32"
    comm.on_every_rank(lambda: layers_of(wanted))
    if wanted in COMPILED:
        # A rank of each host compiles, some 20 seconds the first time, and the others find what it has kept.
        first = first_of_host(comm)[comm.rank] == comm.rank
        for own_turn in (first, not first):
            if own_turn:
                compile_for(wanted)
            comm.allgather(None)
    return config.replace({"model": {"precision": wanted}})
