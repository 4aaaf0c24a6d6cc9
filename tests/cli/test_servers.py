"""`pagedbench replay` against servers of every API that reply at once."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import pagedbench as pb
from pagedbench.loadgen.protocols.api import Api
from pagedbench.runs.exit_codes import CRASHED
from pagedbench.runs.saved import load_run
from pagedbench.tools.capacity import serving as serving_runs
from remote import fake_server
from remote.fake_server import METRICS, FakeServer, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer

    Command = Callable[..., Answer]

VOCABULARY = 50_272  # of opt-125m
LOAD = ("--model", "opt-125m", "--num-requests", "5", "--rate", "200", "--warmup", "1")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One word a token, so that text has as many tokens as there were."""
    words = {f"t{index}": index for index in range(VOCABULARY)}
    made = Tokenizer(models.WordLevel(words, unk_token="t0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    made.save(str(path))
    return path


def reasons(folder: Path) -> list[str]:
    """Why a run is not valid, but for what a busy machine sends late."""
    found: list[str] = load_run(folder).manifest["invalid_because"]
    return [reason for reason in found if "ms late" not in reason]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("api", list(Api))
def test_a_run_against_every_api(api: Api, pagedbench: Command, here: Path, tokenizer: Path) -> None:
    with serving(FakeServer(api, metrics=METRICS if api is Api.VLLM else None)) as fake:
        answer = pagedbench(
            "replay", "--base-url", fake.base_url, *LOAD, "--tokenizer", str(tokenizer),
            "--save-outputs", "--output", "out",
        )  # fmt: skip
    assert (answer.code, answer.err) == (0, "")
    run = load_run(here / "out")
    assert run.system == run.manifest["server"]["api"] == api
    assert len(fake.asked) == 6, "the warm-up, and the trace"
    requests = run.requests
    assert requests["status"].tolist() == ["completed"] * 5
    assert (requests["ttft_ms"] > 0).all()
    assert len(run.steps) == 0
    assert run.values["completed"] == 5
    assert reasons(here / "out") == []
    assert run.manifest["server"]["is_cache_fresh"] == (api in (Api.VLLM, Api.SGLANG, Api.LLAMACPP))
    assert 0 < run.manifest["machine_load"]["cpu_share"] <= 1
    assert run.values["itl_mean_ms"] is not None, "a token in every part"
    assert run.values["running_mean"] is run.values["kv_free_pct"] is run.values["preemptions_swap"] is None
    assert (run.values["prefix_hit_pct"] is not None) == (api is Api.SGLANG)
    lines = [json.loads(line) for line in (here / "out" / "outputs.jsonl").read_text().splitlines()]
    assert [line["text"].count("w") for line in lines] == requests["output_len"].tolist()
    if api is Api.VLLM:
        (first, *_) = rows(here / "out" / "server.csv")
        assert (float(first["running"]), float(first["kv_use_pct"]), first["prefix_hits"]) == (
            2.0,
            25.0,
            "",
        )
        assert run.summary["run"]["kv_slots"] == 1600
        assert "KV pool 25.0 % in use" in answer.out
    else:
        assert not (here / "out" / "server.csv").exists()
    assert ("lengths vary" in answer.out) == (api in (Api.TGI, Api.OLLAMA))


def test_the_requests_are_those_of_run(pagedbench: Command, here: Path) -> None:
    """Same prompts, same lengths, same times."""
    load = ("--model", "opt-125m", "--num-requests", "5", "--rate", "200", "--max-model-len", "512")
    own = pagedbench("run", *load, "--device", "sim:a100-40gb", "--output", "own", "--progress", "none")
    assert own.code == 0
    with serving(FakeServer(Api.VLLM)) as fake:
        words = ("--base-url", fake.base_url, "--config", "own/config.toml", "--output", "out")
        assert pagedbench("replay", *words).code == 0, "the options of a run are those of a replay"
    run, seen = load_run(here / "own"), load_run(here / "out")
    for fact in ("sha256", "arrivals_sha256"):
        assert run.manifest["trace"][fact] == seen.manifest["trace"][fact]
    for name in ("prompt_len", "output_len", "arrival_s"):
        assert run.requests[name].tolist() == seen.requests[name].tolist()
    lengths = zip(run.requests["prompt_len"], run.requests["output_len"], strict=True)
    asked = [(len(body["prompt"]), body["max_tokens"]) for body in fake.asked[8:]]
    assert sorted(asked) == sorted(lengths)


def test_a_closed_loop_and_sessions(pagedbench: Command, here: Path) -> None:
    (here / "chat.csv").write_text(
        "prompt_len,output_len,arrival_s,session\n4,2,0,a\n3,2,0,a\n5,2,0,b\n4,3,0,b\n", encoding="utf-8"
    )
    with serving(FakeServer(Api.VLLM)) as fake:
        answer = pagedbench(
            "replay", "--base-url", fake.base_url, "--model", "opt-125m", "--trace", "chat.csv",
            "--arrival", "closed", "--max-concurrency", "1", "--warmup", "0", "--output", "out",
        )  # fmt: skip
    assert answer.code == 0, answer.err
    prompts = [body["prompt"] for body in fake.asked]
    assert len(prompts) == 10
    for first, second in zip(prompts[::2], prompts[1::2], strict=True):
        assert second[: len(first)] == first, "a turn's prompt begins with the one before"
    requests = load_run(here / "out").requests.sort_values("arrival_s")
    assert (requests["arrival_s"].to_numpy()[1:] >= requests["finish_s"].to_numpy()[:-1]).all()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 503}, None),
        ({"stop_at": 2}, "5 requests did not get the exact output length"),
        (
            {"error_after": 1},
            "5 requests failed: 5 got an incomplete reply (an error in the stream: out",
        ),
    ],
)
def test_what_makes_a_run_invalid(
    fault: dict[str, int], reason: str | None, pagedbench: Command, here: Path
) -> None:
    with serving(FakeServer(Api.VLLM, **fault)) as fake:
        load = ("replay", "--base-url", fake.base_url, *LOAD, "--warmup", "0", "--output", "out")
        answer = pagedbench(*load, "--strict")
        refused = pagedbench("replay", "--base-url", fake.base_url, *LOAD, "--output", "other")
    assert answer.code == 5
    assert (reason or "5 were refused (status 503: no such thing for None)") in " ".join(answer.out.split())
    assert load_run(here / "out").manifest["valid"] is False
    if "stop_at" not in fault:
        assert refused.code == 2, "the warm-up is not answered"
        assert refused.err.startswith("Error: the server does not answer the warm-up: ")
        assert not (here / "other").exists()


def test_parts_that_are_not_tokens_have_no_gaps(pagedbench: Command, here: Path) -> None:
    with serving(FakeServer(Api.OPENAI, tokens_per_chunk=3)) as fake:
        answer = pagedbench(
            "replay", "--base-url", fake.base_url, *LOAD, "--api", "vllm", "--output", "out", "--label", "x"
        )
    run = load_run(here / "out")
    assert (run.system, run.summary["run"]["label"]) == ("x", "x")
    assert run.values["itl_mean_ms"] is None
    assert run.values["tpot_mean_ms"] is not None
    assert "so there is no inter-token latency" in " ".join(answer.out.split())
    assert reasons(here / "out") == []


def test_config_repeats_it(pagedbench: Command, here: Path) -> None:
    with serving(FakeServer(Api.LLAMACPP)) as fake:
        first = ("replay", "--base-url", fake.base_url, *LOAD, "--prefix-caching", "--timeout", "7")
        assert pagedbench(*first, "--output", "one").code == 0
        answer = pagedbench("replay", "--config", "one/config.toml", "--seed", "1", "--output", "two")
        assert answer.code == 0, answer.err
        wrong = pagedbench("run", "--config", "one/config.toml")
    assert wrong.code == 2
    assert "repeat it with pagedbench replay" in wrong.err
    one, two = load_run(here / "one"), load_run(here / "two")
    assert one.config["server"] == two.config["server"]
    assert two.config == {**one.config, "seed": 1}
    assert {body["cache_prompt"] for body in fake.asked} == {True}
    assert pb.read_run("two").summary["system"] == "llamacpp"


def test_the_key_is_sent_and_never_kept(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(FakeServer(Api.VLLM, key="sesame")) as fake:
        load = ("replay", "--base-url", fake.base_url, *LOAD, "--save-outputs", "--output", "out")
        refused = pagedbench(*load)
        assert refused.code == 2
        assert "PAGEDBENCH_API_KEY" in refused.err
        monkeypatch.setenv("PAGEDBENCH_API_KEY", "sesame")
        answer = pagedbench(*load)
    assert answer.code == 0, answer.err
    with serving(FakeServer(Api.VLLM, key="sesame", status=400)) as fake:
        load = ("replay", "--base-url", fake.base_url, *LOAD, "--warmup", "0", "--output", "repeated")
        failed = pagedbench(*load)
    assert "no such thing for Bearer [key]" in " ".join(failed.out.split())
    for told in (answer, failed):
        assert "sesame" not in told.out + told.err
    files = [*(here / "out").iterdir(), *(here / "repeated").iterdir()]
    assert not any("sesame" in path.read_text(encoding="utf-8") for path in files)


def test_the_key_of_openai_goes_to_no_other_machine_in_the_clear(
    pagedbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    answer = pagedbench("replay", "--base-url", "http://192.0.2.1:9", *LOAD)
    assert (answer.code, "OPENAI_API_KEY would be sent to 192.0.2.1 unencrypted" in answer.err) == (2, True)


def test_no_run_finds_prompts_of_an_earlier_one(pagedbench: Command, here: Path) -> None:
    """vLLM is told to set runs apart, SGLang to empty its cache; of others it is said."""
    said = "may have had prompts in its cache"
    with serving(FakeServer(Api.VLLM)) as vllm, serving(FakeServer(Api.SGLANG)) as sglang:
        for fake in (vllm, sglang):
            words = ("--base-url", fake.base_url, *LOAD, "--warmup", "0", "--rate", "100,200")
            answer = pagedbench("replay", *words, "--output", fake.api)
            assert (answer.code, said in " ".join(answer.out.split())) == (0, False), answer.err
    salts = [body["cache_salt"] for body in vllm.asked]
    assert len(set(salts)) == 2
    assert len(set(salts[:5])) == len(set(salts[5:])) == 1
    assert sglang.num_flushes == 2
    with serving(FakeServer(Api.VLLM, owner="pagedbench")) as ours:
        answer = pagedbench("replay", "--base-url", ours.base_url, *LOAD, "--output", "ours")
    assert said in " ".join(answer.out.split())
    assert not any("cache_salt" in body for body in ours.asked)


def test_a_version_alone_is_not_vllm(pagedbench: Command, here: Path, tokenizer: Path) -> None:
    with serving(FakeServer(Api.VLLM, owner="tensorrt_llm")) as fake:
        words = ("--base-url", fake.base_url, *LOAD, "--tokenizer", str(tokenizer), "--output", "out")
        assert pagedbench("replay", *words).code == 0
    assert load_run(here / "out").manifest["server"]["product"] == "tensorrt_llm"
    assert load_run(here / "out").system == "openai"


def test_a_server_that_dies_between_runs_leaves_a_crashed_row(pagedbench: Command, here: Path) -> None:
    with serving(FakeServer(Api.VLLM, serves=6)) as fake:
        words = ("--base-url", fake.base_url, *LOAD, "--rate", "100,200", "--output", "out")
        answer = pagedbench("replay", *words)
    assert answer.code == CRASHED, answer.err
    assert "the server does not answer the warm-up" in answer.err
    assert "crashed" in answer.out
    assert len(list((here / "out").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name the server with --base-url"),
        (("--base-url", "localhost:8000"), "must look like http://HOST:PORT"),
        (("--base-url", "http://me:secret@localhost"), "give the API key in the environment"),
        (("--base-url", "http://127.0.0.1:9"), "cannot be reached"),
        (("--base-url", "http://127.0.0.1:9", "--api", "grpc"), "--api is one of auto, openai"),
        (("--base-url", "http://127.0.0.1:9", "--kv-slots", "9"), "--kv-slots has no effect on a server"),
        (("--base-url", "http://127.0.0.1:9", "--system", "ft"), "--system has no effect on a server"),
        (("--base-url", "http://127.0.0.1:9", "--n", "2", "--temperature", "1"), "one sample"),
        (("--base-url", "http://127.0.0.1:9", "--slo", "queue_time:1s"), "which no client of a server can"),
        (("--base-url", "http://127.0.0.1:9", "--timeout", "0"), "--timeout must be"),
        (("--base-url", "http://127.0.0.1:9", "--num-workers", "0"), "--num-workers must be at least 1"),
        (("--base-url", "http://127.0.0.1:9", "--trace", "nowhere.csv"), "nowhere.csv"),
        (("--base-url", "http://127.0.0.1:9", "--save-events"), "--save-events has no effect"),
    ],
)  # fmt: skip
def test_refusals(words: tuple[str, ...], sentence: str, pagedbench: Command, here: Path) -> None:
    answer = pagedbench("replay", *words)
    assert answer.code == 2
    assert sentence in answer.err
    assert "secret" not in answer.err
    assert answer.err.count("\n") == 1
    assert list(here.iterdir()) == []


def test_a_server_that_cannot_be_used(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(FakeServer(Api.OPENAI)) as fake:
        base = ("replay", "--base-url", fake.base_url)
        for words, sentence in {
            (): "the vocabulary of tiny is not known here",
            ("--model", "opt-125m"): "name the model's tokenizer with --tokenizer",
            ("--served-model", "huge"): "the server has no model 'huge': it has tiny",
            ("--model", "opt-125m", "--max-model-len", "513"): "above the server's 512 tokens",
            ("--model", "opt-125m", "--prefix-caching"): "--prefix-caching is not sent",
        }.items():
            answer = pagedbench(*base, *words)
            assert (answer.code, sentence in answer.err) == (2, True), answer.err
    (here / "n.csv").write_text("prompt_len,output_len,n\n4,2,2\n", encoding="utf-8")
    with serving(FakeServer(Api.VLLM)) as fake:
        several = ("--trace", "n.csv", "--temperature", "1", "--model", "opt-125m")
        for words, sentence in {
            ("replay", "--base-url", fake.base_url, *several): "has requests for several samples",
            ("compare", "--target", f"a={fake.base_url},paged", *several, "--device", "sim:a100-40gb"):
                "has requests for several samples",
            ("compare", "--target", f"a={fake.base_url},b={fake.base_url}", "--block-size", "8"):
                "--block-size has no effect on a server",
            ("compare", "--target", f"a={fake.base_url},b={fake.base_url}", "--model", "opt-125m",
             "--prefix-caching"): "--prefix-caching is not sent",
        }.items():  # fmt: skip
            answer = pagedbench(*words)
            assert (answer.code, sentence in answer.err) == (2, True), answer.err
    (here / "n.csv").unlink()
    (here / "ids.json").write_text('{"requests": [{"prompt": [50271], "out": 2}]}', encoding="utf-8")
    monkeypatch.setattr(fake_server, "MODEL", "llama-7b")
    with serving(FakeServer(Api.VLLM)) as fake:
        answer = pagedbench(
            "compare", "--target", f"a={fake.base_url},paged", "--trace", "ids.json",
            "--device", "sim:a100-40gb",
        )  # fmt: skip
    assert (answer.code, "ends at 31999" in answer.err) == (2, True), answer.err
    (here / "ids.json").unlink()
    assert list(here.iterdir()) == []


def test_live_servers_beside_systems(pagedbench: Command, here: Path) -> None:
    """The same requests to all, in the order A B B A."""
    with serving(FakeServer(Api.VLLM)) as one, serving(FakeServer(Api.SGLANG)) as two:
        answer = pagedbench(
            "compare", "--target", f"one={one.base_url},two={two.base_url},paged", "--repeats", "2",
            "--model", "opt-125m", "--device", "sim:a100-40gb", "--num-requests", "3", "--rate", "100",
            "--progress", "none", "--format", "csv", "--output", "out",
        )  # fmt: skip
    assert answer.code == 0, answer.err
    table = list(csv.DictReader(answer.out.splitlines()))
    assert [row["system"] for row in table] == ["paged", "one", "two", "two", "one", "paged"]
    assert len({row["trace_sha256"] for row in table}) == 1
    assert {row["model"] for row in table} == {"opt-125m"}
    assert {row["kv_free_pct"] != "" for row in table if row["system"] == "paged"} == {True}
    assert {row["kv_free_pct"] for row in table if row["system"] != "paged"} == {""}
    assert len(list((here / "out").iterdir())) == 6
    loads = {run.system: run.manifest["machine_load"] for run in map(load_run, (here / "out").iterdir())}
    assert {name for name, load in loads.items() if load is None} == {"paged"}
    for words, sentence in {
        ("--target", "paged,orca-max"): "--target compares a server with others",
        ("--target", "a=http://x,a=http://y"): "--target names each server once",
        ("--target", "a=http://x,nothing"): "unknown system 'nothing'",
        ("--target", "a=http://x,paged", "--system", "ft"): "--system and --target both name systems",
        ("--target", "a=http://x,paged", "--gate", "tpot"): "--gate is for runs that are judged",
    }.items():
        refused = pagedbench("compare", *words)
        assert (refused.code, sentence in refused.err) == (2, True), refused.err


def test_a_server_beside_a_system_keeps_its_own_model(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_server, "MODEL", "opt-13b")
    with serving(FakeServer(Api.VLLM)) as fake:
        answer = pagedbench(
            "compare", "--target", f"one={fake.base_url},paged", "--device", "sim:a100-40gb",
            "--num-requests", "3", "--rate", "100", "--progress", "none", "--format", "csv",
            "--output", "out",
        )  # fmt: skip
    assert answer.code == 0, answer.err
    models = {row["system"]: row["model"] for row in csv.DictReader(answer.out.splitlines())}
    assert models == {"one": "opt-13b", "paged": "opt-125m"}


def test_a_server_that_stays_busy_is_not_searched(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_runs, "IDLE_TIMEOUT", 0.0)
    with serving(FakeServer(Api.VLLM, metrics=METRICS)) as fake:
        answer = pagedbench(
            "capacity", "--base-url", fake.base_url, "--model", "opt-125m", "--duration", "1",
            "--rate", "20", "--output", "out", "--progress", "none",
        )  # fmt: skip
    assert answer.code == CRASHED
    assert "the server still had requests" in answer.err


def test_the_rate_that_a_server_sustains(pagedbench: Command, here: Path) -> None:
    with serving(FakeServer(Api.VLLM, stop_at=1)) as fake:
        load = ("--model", "opt-125m", "--duration", "1", "--rate", "20", "--warmup", "0")
        answer = pagedbench(
            "capacity", "--base-url", fake.base_url, *load, "--bound", "1e-9", "--tolerance", "1",
            "--output", "out", "--progress", "none",
        )  # fmt: skip
        refused = pagedbench("capacity", "--base-url", fake.base_url, "--find", "kv-memory")
    assert answer.code == 0, answer.err
    (row,) = rows(here / "out" / "capacity.csv")
    assert (row["system"], row["capacity"], row["limited_by"], row["device"]) == (
        "vllm",
        "0",
        "unknown",
        "",
    )
    assert "before the first token" in answer.out
    assert refused.code == 2
    assert "whose pool is its own" in refused.err
