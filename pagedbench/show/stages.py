"""The stage of a long measurement: a line on stderr that changes or, without a terminal, one per stage."""

from __future__ import annotations

from pagedbench.show.console import shows_live, stderr_console


class Stages:
    """Shows the stage while the `with` block works. `first`: the first stage."""

    def __init__(self, first: str) -> None:
        self._console = stderr_console()
        self._is_live = shows_live(self._console)
        self._status = self._console.status(first)
        self._stage = ""

    def __enter__(self) -> Stages:
        if self._is_live:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def tell(self, text: str) -> None:
        """Show a stage. `text`: its name and, after a colon, its progress."""
        stage, _, _ = text.partition(":")
        if self._is_live:
            self._status.update(text)
        elif stage != self._stage:
            self._stage = stage
            self._console.print(stage, soft_wrap=True)
