"""The training run: the loop and what it writes. The one room that knows all the others."""
