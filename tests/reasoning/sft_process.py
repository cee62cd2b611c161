"""Trains the tiny student in as many processes as the launcher starts; see test_sft_parallel.py."""

import json
import os
import sys
from pathlib import Path

from accelerate import PartialState
from transformers import AutoModelForCausalLM, AutoTokenizer

from taiji.config import SftSection, TrainingCompute
from taiji.reasoning.sft import StudentRun, TrainingRow, train_student


def main() -> None:
    folder, out, settings = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    rows = [TrainingRow([*range(5, 9 + n)], [*range(20, 30 + 2 * n)]) for n in range(16)]
    steps: list[dict[str, float]] = []
    section = SftSection.model_validate(json.loads(settings))
    processes = int(os.environ["WORLD_SIZE"])
    PartialState(cpu=True)
    train_student(
        model,
        tokenizer,
        rows,
        StudentRun(section, 17, Path(out) / "checkpoints", TrainingCompute(processes=processes)),
        lambda row, total: steps.append(row),
    )
    if os.environ.get("RANK", "0") == "0":
        model.save_pretrained(Path(out) / "model")
        (Path(out) / "steps.json").write_text(json.dumps(steps))
    else:
        assert not steps, "only the first process reports"


main()
