"""Contestants measured side by side: this project, PyTorch on the same model, and the machine's own peak."""
