"""PopoTrainer on two processes of this machine, against float64 on the union of their rollouts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def untied_folder(toy_model_folder, toy_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("untied")
    model = LlamaForCausalLM.from_pretrained(toy_model_folder, tie_word_embeddings=False)
    model.save_pretrained(folder)
    toy_tokenizer.save_pretrained(folder)
    return folder


def launch(folder, out, *settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parent
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*run, "--master_port", str(port), "two_processes.py", str(folder), str(out)]
    own = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(here.parent)}
    environment = os.environ | own
    return subprocess.run(
        [*command, *settings],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(
    ("way", "rule", "prompts"),
    [
        ("ddp", "popo", "shared"),
        ("ddp", "popo", "plain"),
        ("ddp-lora", "popo", "plain"),
        ("ddp", "popo_split", "shared"),
        ("fsdp2", "popo", "plain"),
        ("fsdp2", "popo", "shared"),
        ("fsdp2", "popo_split", "shared"),
    ],
)
def test_scores_and_updates_are_those_of_all_rollouts(untied_folder, tmp_path, way, rule, prompts):
    run = launch(untied_folder, tmp_path, way, rule, prompts)
    assert run.returncode == 0, run.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["processes"] == 2
    assert ("DTensor" in result["parameters"]) == (way == "fsdp2")
    assert len(result["found"]) == 2
    assert max(result["errors"]) < 1e-5
    for found, expected in zip(result["found"], result["expected"], strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_fsdp2_with_tied_embeddings_is_refused(toy_model_folder, tmp_path):
    run = launch(toy_model_folder, tmp_path, "fsdp2", "popo", "plain")
    assert run.returncode != 0
    assert "FSDP2 with tied embeddings" in run.stderr
