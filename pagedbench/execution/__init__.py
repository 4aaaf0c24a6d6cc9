"""What happens in an iteration: a model computes it, or known lengths stand for it."""
