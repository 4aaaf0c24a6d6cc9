"""Decoders of the OPT and LLaMA families over a ragged batch of tokens; where their weights come from."""
