"""Everything that knows there is more than one process: communication, and the placement of ranks and threads."""
