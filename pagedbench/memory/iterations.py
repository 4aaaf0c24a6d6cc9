"""What a memory manager does by the iterations of its engine, whoever runs in them."""

from __future__ import annotations


class ByIteration:
    """Most managers do nothing by themselves."""

    @property
    def grows_alike(self) -> bool:
        """Does only `advance` change anything while no sequence comes, ends or needs room?"""
        return False

    def start_iteration(self, now: float) -> None:
        """An iteration is about to be scheduled, at `now` seconds of the run's clock."""
        return
