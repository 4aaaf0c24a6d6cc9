"""Twin: what is known of a server that was measured from outside, besides its iterations' costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from pagedbench.clock import VirtualClock
from pagedbench.prompt import GOLDEN_GAMMA
from pagedbench.simulation.fitted_costs import FittedCosts, read_costs, read_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.scheduling.batch import Batch

MIX = 0xBF58476D1CE4E5B9
"""A multiplier of splitmix64."""

WORD = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Domain:
    """The largest measured iterations: more sequences or tokens are an extrapolation.

    Attributes:
        sequences: decoding sequences.
        prefill_tokens: prompt tokens that were computed.
        kept_tokens: tokens of prompts and replies of all running requests.
    """

    sequences: int
    prefill_tokens: int
    kept_tokens: int


@dataclass(frozen=True, slots=True)
class Draw:
    """Costs that explain the measurements equally well (one bootstrap sample).

    Attributes:
        delay: as in `Twin`.
    """

    fitted: FittedCosts
    delay: float


@dataclass(frozen=True, slots=True)
class Variation:
    """How the seconds of single iterations scatter around their expected value.

    Attributes:
        ratios: equally likely ratios of seconds to expected seconds.
    """

    ratios: tuple[float, ...]

    def around(self, step_time: Callable[[Batch], float], seed: int) -> Callable[[Batch], float]:
        """The time of a batch times a ratio, which is a function of the batch and the seed."""

        def varied(batch: Batch) -> float:
            prefill_tokens = batch.num_computed_prefill_tokens if batch.prefills else 0
            keys = len(batch.decodes), prefill_tokens, batch.decode_context
            return step_time(batch) * self._ratio(seed, *keys)

        return varied

    def around_decodes(
        self, decode_times: Callable[[Batch, int], list[float]], seed: int
    ) -> Callable[[Batch, int], list[float]]:
        """The times of iterations that only decode, varied as by `around`."""

        def varied(batch: Batch, number: int) -> list[float]:
            count, first = len(batch.decodes), batch.decode_context
            return [
                seconds * self._ratio(seed, count, 0, first + turn * count)
                for turn, seconds in enumerate(decode_times(batch, number))
            ]

        return varied

    def _ratio(self, seed: int, decodes: int, prefill_tokens: int, context: int) -> float:
        key = ((seed << 20 ^ prefill_tokens) * MIX + (decodes << 40 ^ context)) * GOLDEN_GAMMA & WORD
        key = (key ^ key >> 30) * MIX & WORD
        return self.ratios[(key >> 33) % len(self.ratios)]


@dataclass(frozen=True, slots=True)
class Twin:
    """A server seen from outside.

    Attributes:
        source: which server, when, and from how many requests, in words.
        options: options of `run` that describe the server, by name: its limits and policies.
        delay: seconds of a request outside the engine's iterations: network, HTTP, tokenizer.
        draws: equally plausible costs, for intervals.
        domain: the range of the measurements.
        variation: the scatter of single iterations.
    """

    source: str
    options: dict[str, str | int]
    delay: float
    draws: tuple[Draw, ...]
    domain: Domain
    variation: Variation

    def document(self) -> dict[str, object]:
        """Its form in a profile's file."""
        return {
            "source": self.source,
            "options": self.options,
            "delay": self.delay,
            "ratios": list(self.variation.ratios),
            "domain": asdict(self.domain),
            "draws": [{**draw.fitted.document(), "delay": draw.delay} for draw in self.draws],
        }


def clock_of(
    twin: Twin | None,
    step_time: Callable[[Batch], float],
    decode_times: Callable[[Batch, int], list[float]] | None,
    seed: int,
) -> VirtualClock:
    """The clock of a simulated run; on a server's twin, iterations vary as the server's did."""
    if twin is None or decode_times is None:
        return VirtualClock(step_time, decode_times)
    vary = twin.variation
    return VirtualClock(vary.around(step_time, seed), vary.around_decodes(decode_times, seed))


def read_twin(document: dict[str, Any]) -> Twin:
    """The twin of a document.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    ratios = tuple(read_seconds(ratio) for ratio in document["ratios"])
    if not ratios:
        raise ValueError("a twin's variation has no ratios")
    return Twin(
        source=str(document["source"]),
        options=dict(document["options"]),
        delay=read_seconds(document["delay"]),
        draws=tuple(Draw(read_costs(item), read_seconds(item["delay"])) for item in document["draws"]),
        domain=Domain(**{item.name: int(document["domain"][item.name]) for item in fields(Domain)}),
        variation=Variation(ratios),
    )
