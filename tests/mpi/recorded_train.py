"""``python -m tests.mpi.recorded_train RECORD ...``: train, and write down which sequences each rank was given."""

import json
import sys
from pathlib import Path

from dist_llm import train
from dist_llm.data.loader import Loader
from dist_llm.parallel.program import run
from dist_llm.shares import share_in_units


class RecordingLoader(Loader):
    """Appends a line for each batch: step, and the ids of the sequences that this rank got."""

    record: Path

    def batch(self, step, rank=0, world_size=1, unit=1):
        mine = self.sequence_ids(step)[share_in_units(self.batch_size, unit, rank, world_size)]
        batch = super().batch(step, rank, world_size, unit)
        assert len(batch[0]) == len(mine)
        with (self.record / f"rank-{rank}-of-{world_size}.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "sequences": mine.tolist()}) + "\n")
        return batch


if __name__ == "__main__":
    RecordingLoader.record = Path(sys.argv.pop(1))
    RecordingLoader.record.mkdir(exist_ok=True)
    train.Loader = RecordingLoader
    sys.exit(run(train.main))
