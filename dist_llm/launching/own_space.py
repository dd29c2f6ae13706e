"""Folders for Open MPI's files and its shared memory, which are removed when a job has ended.

An mpirun that is killed leaves both behind, segments of shared memory among them, which fill the memory of the host.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SEGMENTS = "OMPI_MCA_btl_sm_backing_directory"
PREFIX = "dist_llm-"


@contextmanager
def own_space(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Make the folders on this host, and remove them with all that is in them at the end of a ``with`` block.

    Parameters
    ----------
    environment : mapping
        Where it names a folder for segments of shared memory, the one for the job is made in that.

    Yields
    ------
    dict
        What a launcher's environment says of them.
    """
    memory = environment.get(SEGMENTS) or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as files,
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=memory, ignore_cleanup_errors=True) as segments,
    ):
        yield {"TMPDIR": files, SEGMENTS: segments}
