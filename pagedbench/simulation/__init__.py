"""Simulation without a model: known lengths, and cost models of iterations on a card."""
