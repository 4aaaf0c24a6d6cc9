"""Published figures of whole engines beside simulated ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pagedbench.config import ConfigError
from pagedbench.tools.paper.engines import Published, compare_engines, engines_table, read_published

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "source,model,card,tensor_parallel,prompt_len,output_len,load,metric,value\n"
ROW = Published(
    "LMDeploy 0.1.0a1", "llama-2-7b", "a100-80gb", "1", "64", "8", "batch 2", "first_token_s", "0.02"
)


def test_a_figure_is_compared_in_its_own_unit() -> None:
    """Both rows are of one run: the prompts are computed, and six more tokens of both sequences decoded."""
    throughput = replace(ROW, metric="output_tokens_per_s", value="150")
    first, rate = compare_engines([ROW, throughput])
    assert 0.005 < first.simulated < 0.1
    assert rate.ratio == rate.simulated / 150
    assert 16 / rate.simulated < first.simulated + 7 * 0.02


def test_an_engine_that_decodes_the_last_prompt_token_comes_a_step_later() -> None:
    other = replace(ROW, source="TensorRT-LLM 0.17")
    later, usual = compare_engines([ROW, other])
    assert later.simulated > 1.3 * usual.simulated


def test_capped_replies_are_the_same_in_every_run() -> None:
    row = Published("vLLM 0.1.2", "opt-13b", "a100-40gb", "1", "32", "exponential mean 8 capped at 16",
                    "20 requests at once", "tokens_per_s_in_and_out", "1000")  # fmt: skip
    one, two = (compare_engines([row])[0] for _ in range(2))
    assert one == two
    names = [column.heading for column in engines_table([one]).columns]
    assert names == ["engine", "metric", "figures", "median", "lowest", "highest", "host x 0.5", "host x 2",
                     "host plus 1 ms"]  # fmt: skip


def test_the_host_time_of_2023_matters_and_a_multiple_of_none_is_none() -> None:
    old = Published("vLLM 0.1.2", "opt-13b", "a100-40gb", "1", "32", "8", "batch 4",
                    "tokens_per_s_in_and_out", "1000")  # fmt: skip
    ratios = compare_engines([old])[0]
    half, double, more = ratios.ratio_by_host.values()
    assert half > ratios.ratio > more > double
    throughput = compare_engines([replace(ROW, metric="output_tokens_per_s", value="150")])[0]
    half, double, more = throughput.ratio_by_host.values()
    assert half == double == throughput.ratio > more


def test_only_the_documented_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_text(HEADER + "a,opt-13b,a100-40gb,1,8,8,batch 1,first_token_s,1\n")
    assert read_published(path)[0].model == "opt-13b"
    path.write_text("source,model\na,b\n")
    with pytest.raises(ConfigError, match="no rows with the columns source, model"):
        read_published(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_published(tmp_path / "none.csv")
