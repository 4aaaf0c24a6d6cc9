"""ByIteration: what a memory manager does once per iteration, whichever sequences run in it."""

from __future__ import annotations


class ByIteration:
    """Hooks that most managers leave as they are."""

    @property
    def grows_alike(self) -> bool:
        """Does nothing but `advance` change the manager while no sequence comes, ends or needs room?"""
        return False

    def start_iteration(self, now: float) -> None:
        """An iteration is about to be scheduled, at `now` seconds of the run's clock."""
        return
