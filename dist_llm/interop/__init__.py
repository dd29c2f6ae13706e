"""Other programs' forms of a model and its tokenizer."""
