"""What the report says about the way to a validation loss: a row for each batch size and point."""

from dist_llm.measuring.spread import Spread
from dist_llm.measuring.tables import Row, Section
from dist_llm.scalability.measurements import Measurements
from dist_llm.scalability.time_to_loss import BatchToLoss, PointToLoss, ToLoss


def time_to_loss_section(to_loss: ToLoss, measured: Measurements) -> Section:
    """Return the table and what is to be known of it."""
    known = any(isinstance(p.energy_j, Spread) for batch in to_loss.batches for p in batch.points)
    rows: list[Row] = [("batch, point", "cores", "time s (95 %)", "core-seconds (95 %)", *["kJ (95 %)"] * known)]
    rows += [(f"{batch.batch_size} on {p.point}", *_cells(p, known)) for batch in to_loss.batches for p in batch.points]
    words = [_learned(batch, measured.seq_len) for batch in to_loss.batches]
    words += [
        f"batch {batch.batch_size}, without results: {', '.join(f'{p} ({why})' for p, why in batch.doubts.items())}"
        for batch in to_loss.batches
        if batch.reached and batch.doubts
    ]
    if to_loss.batches:
        words += _method(measured)
    title = f"to a validation loss of {to_loss.loss:g}"
    return Section(title, rows if len(rows) > 1 else [], words=words or ["no batch size has learned"])


def _cells(p: PointToLoss, known: bool) -> tuple[str, ...]:
    energy = [p.energy_j.with_interval(1, 1e-3) if isinstance(p.energy_j, Spread) else "-"] * known
    return str(p.cores), p.seconds.with_interval(1), p.core_seconds.with_interval(1), *energy


def _learned(batch: BatchToLoss, seq_len: int) -> str:
    name = f"batch {batch.batch_size}, lr {batch.lr:.3g}"
    if batch.reached is None:
        return f"{name}: NOT REACHED in {batch.max_steps:,} steps; the best loss was {batch.best_loss:.4f}"
    reached = batch.reached
    tokens = reached.steps * batch.batch_size * seq_len / 1e6
    between = f"between {reached.least:,} and {reached.most:,}"
    return f"{name}: reached after {reached.steps:,.0f} steps ({between}), {tokens:.3g} M tokens"


def _method(measured: Measurements) -> list[str]:
    train = measured.config.train
    return [
        "time = steps to the loss x time of a step, and its interval is that of a step; evaluations are not in it. The "
        "steps depend on the batch size and not on the ranks: one run each learned, from one seed, until an evaluation "
        "as in training found the loss; between that and the one before, they are interpolated",
        f"all had {train.max_steps * train.batch_size:,} sequences at most. The learning rate goes with the square "
        "root of the batch size, after Malladi et al. (2022) for Adam; for Muon that rule is in use, and not derived",
    ]
