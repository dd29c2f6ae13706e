"""The layers of `dist_llm.model`, compiled by numba, with products of bfloat16 numbers; optional."""
