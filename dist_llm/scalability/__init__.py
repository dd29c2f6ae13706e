"""How speed grows with ranks and threads: measured runs, what they mean, and what a network would make of it."""
