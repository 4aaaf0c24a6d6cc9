"""Decoders over a ragged batch of tokens: OPT and LLaMA of our own, all others by transformers' code."""
