"""Figure: the computations for one figure of the paper, and the figure made from their results."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from pagedbench.runs.files import csv_text
from pagedbench.tools.paper.lengths import FROM_FILES, TRANSLATION, Lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pagedbench.show.charts import Chart
    from pagedbench.tools.paper.claim import Claim
    from pagedbench.tools.paper.experiment import Experiment

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a figure that any process can compute.

    Attributes:
        name: unique within the figure.
        work: a function of a module, called with `arguments`.
        is_measured: it times this machine, so nothing must run at the same time.
    """

    name: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    is_measured: bool = False

    def compute(self) -> Any:
        return self.work(*self.arguments)


@dataclass(frozen=True, slots=True)
class Options:
    """The user's choices.

    Attributes:
        lengths: the data sets.
        seed: the seed of arrivals; the authors' is 0.
        num_seeds: the number of seeds, from `seed` on, for claims that depend on the seed.
        max_num_seqs: the same for every system; None: the authors' limits, 2048 for paged and 256 for the
            others.
    """

    lengths: Lengths = field(default_factory=Lengths)
    seed: int = 0
    num_seeds: int = 5
    max_num_seqs: int | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.num_seeds))

    def piece(
        self, name: str, work: Callable[..., Any], experiment: Experiment, system: str,
        *more: object, seed: int | None = None,
    ) -> Piece:  # fmt: skip
        """`work` for an experiment and a system, with the user's lengths, seed and limit on sequences."""
        limited = replace(experiment, max_num_seqs=self.max_num_seqs)
        own_seed = self.seed if seed is None else seed
        return Piece(name, work, (limited, system, self.lengths, own_seed, *more))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a figure.

    Attributes:
        tables: suffix of the CSV file's name -> rows with the same keys.
        chart: the figure with the paper's axes.
        facts: what a reader has to know: set-up, assumptions, and their effects.
        ratios: name -> number, for claims across several figures.
    """

    tables: Mapping[str, Sequence[Row]]
    claims: Sequence[Claim]
    chart: Chart
    facts: Sequence[str]
    ratios: Mapping[str, float] = field(default_factory=dict)

    def files(self, name: str) -> dict[str, bytes]:
        """File name -> content: the tables as CSV, and the chart if matplotlib is installed."""
        from pagedbench.show.drawing import can_draw, image

        files = {f"{name}{end}.csv": csv_text(rows[0], rows).encode() for end, rows in self.tables.items()}
        if can_draw():
            files |= {f"{name}.{kind}": image(self.chart, kind) for kind in ("png", "svg")}
        return files


class Figure(Protocol):
    """One figure. `traces`: the data sets of `lengths` that it replays, the main one first."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def traces(self) -> tuple[str, ...]: ...

    def pieces(self, options: Options) -> Sequence[Piece]:
        """All pieces to compute."""
        ...

    def outcome(self, options: Options, results: Mapping[str, Any]) -> Outcome:
        """Make the outcome from the results of the pieces, by name."""
        ...


def setup_facts(experiment: Experiment, options: Options, system: str = "paged") -> list[str]:
    """The simulated machine, the step times, the limits and the lengths of one set-up."""
    plan = experiment.plan(system)
    limits = (
        "2048 sequences for paged and 256 for the others, as the authors had it"
        if options.max_num_seqs is None
        else f"{options.max_num_seqs} sequences for every system"
    )
    facts = [
        f"Simulated: {plan.shape.name} on {plan.device_name}, {plan.num_blocks:,} blocks of "
        f"{plan.config.block_size}; at most {limits}.",
        f"Step times: {plan.cost_model}.",
    ]
    if plan.attention_cost is not None:
        facts.append(f"Attention: {plan.attention_cost}.")
    if experiment.trace in FROM_FILES:
        facts.append(f"Lengths: {options.lengths.source(experiment.trace)}.".replace("..", "."))
        if options.lengths.are_drawn(experiment.trace):
            facts.append(
                "Synthesized lengths give the paper's picture, not every digit; --trace takes its own."
            )
    elif experiment.trace == TRANSLATION:
        facts.append("Lengths: assumed, because the paper prints none (see paper/lengths.py).")
    return facts
