"""Tensor parallelism: rank 0 decides, every rank computes its part of one model and KV pool."""
