"""SFT in two processes of this machine, against one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.slow

SECTION = {"learning_rate": 1e-2, "epochs": 2.0, "checkpoint_steps": 3}


def run(folder, out, num_processes, section):
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--master_port", str(port)]
    launch += ["--nproc_per_node", str(num_processes)]
    script = Path(__file__).parent / "sft_process.py"
    done = subprocess.run(
        [*launch, str(script), str(folder), str(out), json.dumps(section)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    weights = AutoModelForCausalLM.from_pretrained(out / "model").state_dict()
    return json.loads((out / "steps.json").read_text()), weights


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_two_processes_take_the_steps_of_one(tiny_model, smollm2_tokenizer, tmp_path, lora):
    folder = tmp_path / "student"
    tiny_model.save_pretrained(folder)
    smollm2_tokenizer.save_pretrained(folder)
    one, weights = run(folder, tmp_path / "one", 1, SECTION | {"batch_size": 4, "lora": lora})
    two, others = run(folder, tmp_path / "two", 2, SECTION | {"batch_size": 4, "lora": lora})
    assert len(one) == len(two) == 8
    for left, right in zip(one, two, strict=True):
        assert right == pytest.approx(left, rel=1e-4)
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-5)
