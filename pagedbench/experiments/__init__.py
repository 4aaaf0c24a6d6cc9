"""Experiments: many measurements under one plan, each checked before it counts."""
