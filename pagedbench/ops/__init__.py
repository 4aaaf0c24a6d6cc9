"""The operations on a slot-addressed KV cache, by meaning; `select` says which backend computes them."""
