"""Starting a training run under an MPI launcher, stopping it politely, and starting it again after a crash."""
