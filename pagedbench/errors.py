"""Errors that are reported in one sentence, without a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """What the user asked for cannot be done; the message is one sentence that says what to change."""


class ConfigError(InputError):
    """An option is unknown, impossible, without effect, or contradicts another."""


class RankError(RuntimeError):
    """A process that computes a part of the model is lost; the message says which, and why."""
