"""Tensor parallelism: rank 0 decides, all ranks compute their part of the same model and KV pool."""
