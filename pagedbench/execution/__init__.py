"""How a model computes an iteration: its inputs, the KV cache, attention and sampling."""
