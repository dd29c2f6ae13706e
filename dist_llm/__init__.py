"""Train LLaMA-style language models on CPUs with nothing but Python, NumPy and MPI."""

__version__ = "0.1.0"
