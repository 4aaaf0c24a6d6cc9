"""Decoders over a ragged batch of tokens: OPT and LLaMA by our own code, all others by transformers'."""
