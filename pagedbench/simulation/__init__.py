"""Iterations without a model: known lengths, and what an iteration costs on a card."""
