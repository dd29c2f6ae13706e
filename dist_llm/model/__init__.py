"""The Transformer, forward and backward by hand.

Dimension letters, used in every shape comment of this package:

    B batch   T time   D dim   H heads   K kv heads   G = H / K   Dh head_dim   F ffn_dim   V vocab   N = B * T

Every layer has the same two methods, and whatever ``forward`` must remember is in ``cache``, never on the layer:

    y, cache = layer.forward(x)
    dx = layer.backward(dy, cache)      # adds to the gradients of the layer's parameters
"""
