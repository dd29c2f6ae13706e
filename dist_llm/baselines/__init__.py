"""The same model in other frameworks: what the tests hold ours to, and the benchmark compares it with."""
