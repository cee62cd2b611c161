"""Do the two readings of Eq. 2 train different students? Real chains, a real model.

    python benchmarks/sft_losses.py recipes/demo.yaml --run runs/demo

A run that has finished `refine` lends its kept chains. A quarter of the users is held out. From the
same weights, in the same order, for each seed the student is tuned as the recipe says, by the mean
over a batch's tokens (`token_mean`) and by the sum over each sequence (`sequence_sum`), each with
TRL's clipping of gradients at norm 1 and without. Judged on chains of users held out, by both
losses; `apart` is |W_a - W_b| over |W_a - W_start|, beside what another choice and order of
examples does.

Each training is kept in `--out`, so that the command goes on where it was stopped. The last line
is JSON.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.language.models import load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.prompts import prompt_fitter
from taiji.reasoning.sft import StudentRun, TrainingRow, sft_loss, token_mean_loss, train_student
from taiji.schema import SCORED
from taiji.stages.parts.constructed import Constructed
from taiji.store.files import read_json, read_parquet, write_json

HELD_OUT = 0.25
ARMS = {
    "token_mean": {"loss": "token_mean"},
    "sequence_sum": {"loss": "sequence_sum"},
    "token_mean, no clipping": {"loss": "token_mean", "trainer": {"max_grad_norm": 0.0}},
    "sequence_sum, no clipping": {"loss": "sequence_sum", "trainer": {"max_grad_norm": 0.0}},
}


def chains(run: Path, recipe: Recipe, scaffold: ChatScaffold) -> list[tuple[str, TrainingRow]]:
    """The kept chains of a run, each with its user."""
    scored = read_parquet(run / "refine" / "scored.parquet", SCORED)
    examples = Constructed(run / "construct").targeted_examples("sft").to_pylist()
    by_id = {example["example_id"]: example for example in examples}
    fitter, found = prompt_fitter(recipe, scaffold), []
    for chain in scored.filter(scored["kept"]).to_pylist():
        example = by_id[chain["example_id"]]
        completion = scaffold.completion_ids(chain["cot"], chain["answer"]).ids
        if len(completion) <= recipe.student.max_completion_tokens:
            prompt = scaffold.prompt_ids(fitter.fit(example)[0])
            found.append((example["user_id"], TrainingRow(prompt, completion)))
    return found


def divided(
    rows: list[tuple[str, TrainingRow]], num_examples: int, seed: int
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Rows to train on in the order of the seed, and those of users held out (of no seed)."""
    users = sorted({user for user, _ in rows})
    drawn = np.random.default_rng(17).permutation(len(users))[: round(len(users) * HELD_OUT)]
    out = {users[index] for index in drawn}
    known = [row for user, row in rows if user not in out]
    order = np.random.default_rng(seed).permutation(len(known))[:num_examples]
    return [known[index] for index in order], [row for user, row in rows if user in out]


@torch.inference_mode()
def logprobs(model: PreTrainedModel, row: TrainingRow) -> NDArray[np.float64]:
    """log P of each token of the completion."""
    ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
    num = len(row.completion_ids)
    logits = model(input_ids=ids, logits_to_keep=num + 1).logits[0, :-1].double()
    targets = ids[0, -num:, None]
    return torch.log_softmax(logits, dim=-1).gather(1, targets)[:, 0].numpy()


def judged(model: PreTrainedModel, rows: list[TrainingRow]) -> dict[str, float]:
    found = [logprobs(model, row) for row in rows]
    return {"sequence_sum": sft_loss(found), "token_mean": token_mean_loss(found)}


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().float().clone() for name, value in model.named_parameters()}


def tune(
    recipe: Recipe,
    train: list[TrainingRow],
    held_out: list[TrainingRow],
    arm: str,
    seed: int,
    out: Path,
) -> None:
    """Leave figures and how far each weight moved in a folder, unless they lie there."""
    if (out / "figures.json").exists():
        return
    model, tokenizer = load_causal_lm(recipe.student.model)
    before, seen = weights(model), []
    section = recipe.sft.model_validate(recipe.sft.model_dump() | ARMS[arm])
    with tempfile.TemporaryDirectory() as folder:
        run = StudentRun(section, seed, Path(folder))
        train_student(model, tokenizer, train, run, lambda row, _: seen.append(row["grad_norm"]))
    moved = [
        (value.detach().float() - before[name]).flatten()
        for name, value in model.named_parameters()
        if value.requires_grad
    ]
    out.mkdir(parents=True, exist_ok=True)
    torch.save(torch.cat(moved), out / "moved.pt")
    figures = {"steps": len(seen), "median_grad_norm": float(np.median(seen))}
    write_json(figures | judged(model, held_out), out / "figures.json")


def apart(one: Path, other: Path) -> float:
    """How far apart two trainings ended, over how far the first one went."""
    a, b = (torch.load(folder / "moved.pt", weights_only=True) for folder in (one, other))
    return float((a - b).norm() / a.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="a run that has finished refine")
    parser.add_argument("--seeds", type=int, nargs="+", default=[17, 18])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--examples", type=int, help="chains to train on, in place of the recipe's")
    parser.add_argument("--out", type=Path, default=Path("runs/sft_losses"))
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe).recipe
    model, tokenizer = load_causal_lm(recipe.student.model)
    scaffold = ChatScaffold(tokenizer)
    num_examples = arguments.examples or recipe.sft.num_examples
    rows, result = chains(arguments.run, recipe, scaffold), {}
    for seed in arguments.seeds:
        train, held_out = divided(rows, num_examples, seed)
        if not result:  # the same chains for every seed
            result["before"] = judged(model, held_out) | {"chains": len(held_out)}
            print("before", json.dumps(result["before"]), flush=True)
        for arm in arguments.arms:
            folder = arguments.out / f"{arm}-{seed}"
            tune(recipe, train, held_out, arm, seed, folder)
            figures = read_json(folder / "figures.json")
            others = {
                "apart from token_mean": arguments.out / f"token_mean-{seed}",
                "apart from the first seed": arguments.out / f"{arm}-{arguments.seeds[0]}",
            }
            figures |= {name: apart(other, folder) for name, other in others.items()
                        if (other / "moved.pt").exists()}  # fmt: skip
            result[f"{arm}, seed {seed}"] = figures
            print(arm, seed, json.dumps(figures), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
