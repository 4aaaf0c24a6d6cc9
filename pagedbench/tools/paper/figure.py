"""Figure: what one figure of the paper needs computed, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pagedbench.tools.paper.lengths import Lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pagedbench.show.charts import Chart
    from pagedbench.tools.paper.claim import Claim

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose.

    Attributes:
        lengths: the data sets.
        seed: of arrivals; the authors' is 0.
        num_seeds: from `seed` on, where a claim depends on one.
        max_num_seqs: the same for every system; None: 2048 for paged and 256 for the others, as the
            authors had it.
    """

    lengths: Lengths = field(default_factory=Lengths)
    seed: int = 0
    num_seeds: int = 3
    max_num_seqs: int | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.num_seeds))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a figure that any process can compute.

    Attributes:
        name: unique within the figure.
        work: a function of a module, called with `arguments`.
        is_measured: it times this machine, and has to be alone on it.
    """

    name: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    is_measured: bool = False

    def compute(self) -> Any:
        return self.work(*self.arguments)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A figure as it came out.

    Attributes:
        tables: by what follows the name of the figure in that of the CSV file; rows have the same keys.
        chart: the figure in the paper's axes.
        facts: what a reader has to know: set-up, assumptions, and what they change.
        ratios: figures that claims across several figures use, by name.
    """

    tables: Mapping[str, Sequence[Row]]
    claims: Sequence[Claim]
    chart: Chart
    facts: Sequence[str]
    ratios: Mapping[str, float] = field(default_factory=dict)


class Figure(Protocol):
    """One figure. `traces`: the data sets of `lengths` that it replays, the main one first."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def traces(self) -> tuple[str, ...]: ...

    def pieces(self, options: Options) -> Sequence[Piece]:
        """Everything that has to be computed."""
        ...

    def outcome(self, options: Options, results: Mapping[str, Any]) -> Outcome:
        """From the result of every piece, by name."""
        ...
