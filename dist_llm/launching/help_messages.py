"""Open MPI's blocks of help on the death of a rank, turned into a line each.

    --------------------------------------------------------------------------
    prterun noticed that process rank 1 with PID 7051 on node ada exited on
    signal 9 (Killed).
    --------------------------------------------------------------------------

One such death gives up to four of them, and no option of mpirun's keeps them back. Blocks about anything else pass
unchanged, and so does every line of the ranks' own, even one that got into a block.
"""

import re

RULER = b"-" * 74
MOST_LINES = 40  # no block is longer: what looks like one is none
# A block that begins so becomes the line, filled with the groups, or nothing, where the rank itself has said why.
DEATHS = {
    rb"prterun noticed that process rank (\d+) with PID \d+ on node (\S+) exited on\s+signal \d+ \(([^)]*)\)":
        b"launch: rank %s on %s was ended by a signal: %s\n",
    rb"prterun detected that one or more processes exited with non-zero status.*@\d+,(\d+)\]\s+Exit code:\s+(\d+)":
        b"launch: rank %s ended with status %s\n",
    rb"MPI_ABORT was invoked on rank (\d+)": b"",
    rb"prterun has exited due to process rank (\d+)": b"",
}  # fmt: skip
# All lines of such blocks.
LINES = re.compile(
    rb"""-{74} | \s*
    | prterun\ noticed\ that\ process\ rank\ .*\ exited\ on | signal\ \d+\ \(.*\)\.
    | prterun\ detected\ that\ one\ or\ more\ processes\ .* | thus\ causing\ the\ job\ to\ be\ terminated\..*
    | \s+Process\ name:\ \[.*\] | \s+Exit\ code:\s+\d+
    | MPI_ABORT\ was\ invoked\ on\ rank\ .* | \s+Proc:\ \[.*\] | \s+Errorcode:\ -?\d+
    | NOTE:\ invoking\ MPI_ABORT\ causes\ .* | You\ may\ or\ may\ not\ see\ output\ .*
    | exactly\ when\ Open\ MPI\ kills\ .*
    | prterun\ has\ exited\ due\ to\ process\ rank\ .* | "abort"\..* | terminated\ by\ signals\ sent\ by\ prterun\ .*
    """,
    re.VERBOSE,
)


class HelpMessages:
    """A filter of what mpirun writes to stderr."""

    def __init__(self) -> None:
        self._partial = b""  # a line whose end has not come
        self._block: list[bytes] = []  # lines from a ruler on

    def feed(self, data: bytes) -> bytes:
        """Return what is to be shown now, after the next piece of output."""
        *lines, self._partial = (self._partial + data.replace(b"\0", b"")).split(b"\n")  # its blocks end with a NUL
        shown = b"".join(self._line(line + b"\n") for line in lines)
        # Progress bars and prompts have no end of line. What may yet become a ruler is held back.
        if not self._block and not RULER.startswith(self._partial):
            shown, self._partial = shown + self._partial, b""
        return shown

    def end(self) -> bytes:
        """Return what was held back, at the end of the output."""
        return b"".join(self._block) + self._partial

    def _line(self, line: bytes) -> bytes:
        is_ruler = line.rstrip() == RULER
        if not self._block and not is_ruler:
            return line
        self._block.append(line)
        if len(self._block) == 1 or not (is_ruler or len(self._block) > MOST_LINES):
            return b""
        block, self._block = b"".join(self._block), []
        return _translated(block)


def _translated(block: bytes) -> bytes:
    for pattern, line in DEATHS.items():
        if found := re.match(RULER + rb"\s+" + pattern, block, re.DOTALL):
            told = line % tuple(b" ".join(group.split()) for group in found.groups()) if line else b""
            return told + b"".join(own for own in block.splitlines(True) if not LINES.fullmatch(own.rstrip(b"\n")))
    return block
