"""`calibrate --base-url`: sends the loads to a live server, and makes a profile of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.clock import utc_text
from pagedbench.config import ConfigError, RunConfig
from pagedbench.remote.jobs import server_plan
from pagedbench.remote.probing import find_server
from pagedbench.remote.runner import ServerRunner
from pagedbench.runs.prediction import SERVER_OPTIONS
from pagedbench.simulation.block_sizes import BlockSizeTimes
from pagedbench.simulation.profile import Profile
from pagedbench.simulation.twin import Twin
from pagedbench.tools.calibrate.twin.loads import Limits
from pagedbench.tools.calibrate.twin.measure import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.plan import Plan
    from pagedbench.remote.options import ServerOptions
    from pagedbench.simulation.shapes import ModelShape
    from pagedbench.tools.calibrate.twin.fit import Fit
    from pagedbench.tools.calibrate.twin.measure import Measured

CHUNKED = "chunked"


@dataclass(frozen=True, slots=True)
class ServerCosts:
    """Makes the profile of a server.

    Attributes:
        name: the server's, in words.
        date: the date of the measurement.
        config: the options of simulated runs that stand for it.
    """

    name: str
    date: str
    config: RunConfig
    shape: ModelShape

    def profile(self, fit: Fit, num_requests: int) -> Profile:
        """The profile of a fit to `num_requests` requests."""
        options = {name: getattr(self.config, name) for name in SERVER_OPTIONS}
        return Profile(
            model=self.config.model,
            shape=self.shape,
            dtype=self.config.dtype,
            kernels="the server's",
            device_name=self.name,
            fitted=fit.fitted,
            block_size=self.config.block_size,
            attention=BlockSizeTimes({self.config.block_size: 1.0}, "not measured"),
            twin=Twin(
                source=f"twin of {self.name}, fitted to {num_requests} requests of {self.date}",
                options=options,
                delay=fit.delay,
                draws=fit.draws,
                domain=fit.domain,
                variation=fit.variation,
            ),
        )


def measure_server(
    options: ServerOptions,
    config: RunConfig,
    duration: float,
    tell: Callable[[str], None],
    *,
    is_model_given: bool,
) -> Measured:
    """Find the server, warm it up, send it the loads, and fit its costs.

    Args:
        config: what the user says about the server: its model, limits and policies.

    Raises:
        ConfigError: it cannot be reached or used, or too little was seen.
    """
    server = find_server(options.base_url, options.api, options.served_model, None)
    plan = server_plan(config, server, is_model_given=is_model_given)
    config = replace(
        config,
        model=plan.config.model,
        max_model_len=plan.config.max_model_len,
        kv_slots=config.kv_slots or server.kv_slots or plan.config.kv_slots,
    )
    limits = limits_of(config, plan)
    runner = ServerRunner(options)
    tell("warming up")
    runner.warm_up(plan)
    costs = ServerCosts(str(server), utc_text()[:10], config, plan.shape)
    return Measurement(
        lambda trace: runner.observations(plan, trace),
        limits,
        config,
        costs.profile,
        duration,
        tell,
    ).run()


def limits_of(config: RunConfig, plan: Plan) -> Limits:
    """What may be sent to a server with these options."""
    assert config.max_model_len is not None, "the length is decided"
    if config.kv_slots is None:
        raise ConfigError("the server does not say how many tokens its KV pool holds: give --kv-slots")
    return Limits(
        longest=min(config.max_model_len, plan.shape.max_model_len),
        sequences=config.max_num_seqs,
        batched_tokens=config.max_num_batched_tokens,
        kept_tokens=config.kv_slots,
        is_chunked=config.prefill == CHUNKED,
    )
