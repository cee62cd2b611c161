import json
from datetime import timedelta

import market
import numpy as np
import pyarrow as pa
import pytest
import torch
from rows import KilledError, example_row
from transformers import AutoModelForCausalLM, AutoTokenizer
from weeks import CALENDAR, window_start

from taiji import schema
from taiji.alignment.rewards.form import outside_tags
from taiji.alignment.rewards.grounding import RUNGS
from taiji.alignment.rewards.normalisers import fit_normaliser
from taiji.config import (
    AlignSection,
    RankerSection,
    Recipe,
    RewardsSection,
    SimulateSection,
    StudentSection,
    WeightsSection,
)
from taiji.data.item_text import item_texts
from taiji.errors import ConfigError, DataError
from taiji.language.prompt import ChatScaffold
from taiji.ranking.as_of import AsOf
from taiji.ranking.train import Labels, fit_ranker, save_ranker
from taiji.reasoning.prompts import student_prompt
from taiji.schema import ROLLOUTS
from taiji.stages.align import align
from taiji.stages.parts.context import StageContext
from taiji.store.files import read_json, read_jsonl, read_parquet, write_json, write_parquet
from taiji.templates import ENGLISH

NUM_EXAMPLES, STEPS, ROLLOUTS_A_STEP = 6, 3, 8
CUTOFF = window_start("rl") + timedelta(days=1)


def example(number: int, split: str = "rl") -> dict:
    return example_row(
        f"{split}{number}",
        split,
        user_id=f"u{number:03d}",
        cutoff=CUTOFF,
        profile="Somebody.",
        target_item_id=f"i{number % 6}0",
    )


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """What construct and simulate leave behind, for a market of twelve users."""
    root = tmp_path_factory.mktemp("upstream")
    logs = market.build(num_users=12)
    (root / "construct").mkdir()
    for name in ("users", "items", "interactions"):
        path = root / "construct" / f"{name}.parquet"
        write_parquet(getattr(logs, name), path, getattr(schema, name.upper()))
    CALENDAR.write(root / "construct" / "windows.json")
    rows = [*(example(n) for n in range(NUM_EXAMPLES)), example(9, "test")]
    examples = pa.Table.from_pylist(rows, schema.EXAMPLES)
    write_parquet(examples, root / "construct" / "examples.parquet", schema.EXAMPLES)
    asof = AsOf(
        users=logs.users, items=logs.items, interactions=logs.interactions, calendar=CALENDAR
    )
    section = RankerSection(dim=4, hidden=(8,), own_items=5, epochs=1, batch_size=256)
    pairs, labels = asof.features(logs.exposures), Labels.from_exposures(logs.exposures)
    save_ranker(fit_ranker(pairs, labels, section, seed=1), root / "simulate" / "ranker")
    normaliser = fit_normaliser("minmax", np.array([0.0, 0.5]))
    write_json(normaliser.to_json(), root / "simulate" / "normaliser.json")
    pool = [
        {"user_id": f"u{n:03d}", "item_id": item, "score": 0.1 * n}
        for n in range(2)
        for item in ("i00", "i10")
    ]
    table = pa.Table.from_pylist(pool, schema.POOL)
    write_parquet(table, root / "simulate" / "pool.parquet", schema.POOL)
    return root


@pytest.fixture
def student(upstream, tiny_model, smollm2_tokenizer):
    """A student that has learnt to write one of a few answers, as SFT would leave it."""
    folder = upstream / "sft" / "model"
    if folder.is_dir():
        return folder
    scaffold = ChatScaffold(smollm2_tokenizer)
    prompt = scaffold.prompt_ids(student_prompt(example(0), ENGLISH))
    texts = item_texts(market.items())[:3]
    rows = [[*prompt, *scaffold.completion_ids("hm", text).ids] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[scaffold.end_id] * (width - len(row))] for row in rows])
    targets, decoder = ids[:, len(prompt) :], tiny_model.get_decoder()
    # Louder embeddings, and one for the end of turn, let the blocks alone learn in a second.
    embeddings = tiny_model.get_input_embeddings().requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        embeddings.weight.normal_(0, 0.4)
    learning = [p for p in tiny_model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-2)
    for _ in range(60):
        hidden = decoder(input_ids=ids).last_hidden_state[:, len(prompt) - 1 : -1]
        logits = tiny_model.get_output_embeddings()(hidden)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()
    tiny_model.save_pretrained(folder)
    smollm2_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def run(upstream, student, tmp_path, monkeypatch):
    """Runs the stage; `kill_at` raises in the progress report of that step."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(upstream / "cache"))

    def start(out="align", kill_at=None, simulate=None, exposures=True, **section):
        def progress(done, total, what):
            if what == "steps" and done == kill_at:
                raise KilledError

        settings = {
            "weights": WeightsSection(eta=5.0),
            "steps": STEPS,
            "prompts_per_step": 2,
            "learning_rate": 1e-3,
            "temperature": 0.7,
            "trainable_layers": 1,
            "checkpoint_steps": 2,
            **section,
        }
        recipe = Recipe(
            name="tiny",
            simulate=simulate or SimulateSection(),
            student=StudentSection(max_completion_tokens=96),
            align=AlignSection(**settings),
        )
        (tmp_path / out).mkdir(exist_ok=True)
        stages = ("construct", "sft", *(["simulate"] if exposures else []))
        inputs = {name: upstream / name for name in stages}
        return align(StageContext(recipe, tmp_path / out, inputs, progress)), tmp_path / out

    return start


def untimed(rows):
    return [
        {k: v for k, v in row.items() if "time" not in k and "seconds" not in k} for row in rows
    ]


def test_the_stage_aligns_and_a_killed_run_ends_the_same(run, student):
    summary, out = run()

    model = AutoModelForCausalLM.from_pretrained(out / "model", local_files_only=True)
    before = AutoModelForCausalLM.from_pretrained(student, local_files_only=True)
    name = "model.layers.1.mlp.up_proj.weight"
    assert not torch.equal(model.state_dict()[name], before.state_dict()[name])
    assert AutoTokenizer.from_pretrained(out / "model", local_files_only=True).chat_template
    end = json.loads((out / "model" / "generation_config.json").read_text())["eos_token_id"]
    assert end
    assert "Policy after POPO" in (out / "model" / "README.md").read_text()
    shown = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert shown == {"model", "metrics.jsonl", "rollouts.parquet"}

    rows = read_jsonl(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    for key in ("w_semantic", "w_preference", "I_semantic", "I_preference", "cos", "loss"):
        assert all(np.isfinite(row[key]) for row in rows)
    assert rows[-1]["w_semantic"] + rows[-1]["w_preference"] == pytest.approx(1)

    rollouts = read_parquet(out / "rollouts.parquet", ROLLOUTS).to_pylist()
    assert len(rollouts) == STEPS * ROLLOUTS_A_STEP
    answered = [row for row in rollouts if row["status"] == "ok"]
    assert len(answered) > len(rollouts) / 2, "the toy student should know the form"
    assert {row["rung"] for row in answered} <= set(RUNGS)
    assert all(row["custom"] is None for row in rollouts)
    assert any(row["preference"] > 0 for row in answered)
    assert all(row["example_id"].startswith("rl") for row in rollouts)
    for row in rows:
        names = ("semantic", "preference")
        flat = all(row[f"rewards/{name}/frac_zero_std"] == 1 for name in names)
        shares = [row.get(f"rewards/{name}/variance_share", 0) for name in names]
        assert sum(shares) == pytest.approx(0 if flat else 1)
        assert sum(row[f"rung/{rung}"] for rung in RUNGS) == pytest.approx(1)
        assert row["hacking/constant_reward"] > 0
        assert 0 <= row["hacking/top_answer_share"] <= 1
        mine = [r["semantic"] for r in rollouts if r["step"] == row["step"]]
        assert row["rewards/semantic/mean"] == pytest.approx(np.mean(mine), abs=1e-6)
    assert summary["steps"] == STEPS
    assert summary["prompts_cut"] == summary["history_lines_dropped"] == 0

    with pytest.raises(KilledError):
        run("killed", kill_at=3)
    again, resumed = run("killed")
    assert again == summary
    assert untimed(read_jsonl(resumed / "metrics.jsonl")) == untimed(rows)
    assert read_parquet(resumed / "rollouts.parquet", ROLLOUTS).to_pylist() == rollouts
    other = AutoModelForCausalLM.from_pretrained(resumed / "model", local_files_only=True)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_rewards_of_every_kind_scores_from_a_table_and_a_bonus(run, tmp_path, monkeypatch):
    (tmp_path / "own_rewards.py").write_text(
        "def known(completions, item_ids, **kwargs):\n"
        "    return [None if item is None else float(item < 'i2') for item in item_ids]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = [f"u{n:03d},i{shelf}0,{0.1 * shelf:.1f}" for n in range(6) for shelf in range(4)]
    scores = tmp_path / "scores.csv"
    scores.write_text("\n".join(["user_id,item_id,score", *lines]) + "\n")
    rewards = RewardsSection(
        semantic=False,
        format="binary",
        custom=({"name": "known", "path": "own_rewards:known"},),
        more=({"kind": "clean", "gated": False},),
        scores=str(scores),
        scores_missing="item_mean",
    )
    simulate = SimulateSection(normaliser="rank", popularity_discount=0.5)
    weights = WeightsSection(rule="popo_light")
    summary, out = run(simulate=simulate, rewards=rewards, weights=weights, steps=1)
    assert {name for name in summary if name.startswith("w_")} == {
        "w_preference",
        "w_format",
        "w_known",
        "w_clean",
    }
    (row,) = read_jsonl(out / "metrics.jsonl")
    assert "rewards/semantic/mean" not in row
    rollouts = read_parquet(out / "rollouts.parquet", ROLLOUTS).to_pylist()
    for rollout in rollouts:
        item = rollout["grounded_item_id"]
        assert dict(rollout["custom"]) == {
            "known": None if item is None else float(item < "i2"),
            "clean": max(0.0, 1 - outside_tags(rollout["completion"]) / 100),
        }
    assert {rollout["format"] for rollout in rollouts} <= {0.0, 1.0}
    scale = read_json(out / "normaliser.json")
    assert (scale["kind"], scale["discount"]["power"]) == ("rank", 0.5)
    assert scale["discount"]["item_means"]["i30"] == pytest.approx(0.3)


def test_a_table_of_strangers_is_refused(run, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("user_id,item_id,score\nsomebody,i00,0.5\n")
    with pytest.raises(DataError, match=r"E114 0 of 6 users of alignment are .* such as 'u000'"):
        run(rewards=RewardsSection(scores=str(scores)))
    scores.write_text("user_id,item_id,score\nu000,sku-i00,0.5\nu001,sku-i01,0.2\n")
    with pytest.raises(DataError, match=r"E114 0 of 2 items with a score are .* such as 'sku-i00'"):
        run("other", rewards=RewardsSection(scores=str(scores)))


def test_a_last_step_that_takes_rollouts_again_ends_the_stage(run):
    summary, out = run(steps=2, trainer={"num_iterations": 2})
    rows = read_jsonl(out / "metrics.jsonl")
    assert ["w_semantic" in row for row in rows] == [True, False]
    assert summary["w_semantic"] == round(rows[0]["w_semantic"], 4)


def test_killed_after_the_last_step_no_step_is_taken_twice(run, monkeypatch):
    def crash(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("taiji.stages.align._save", crash)
        with pytest.raises(KilledError):
            run(weights=WeightsSection(rule="fixed"), steps=1)
    _, out = run(weights=WeightsSection(rule="fixed"), steps=1)
    assert [row["step"] for row in read_jsonl(out / "metrics.jsonl")] == [1]
    assert read_parquet(out / "rollouts.parquet", ROLLOUTS).num_rows == ROLLOUTS_A_STEP
    assert (out / "model" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["checkpoints", "rollouts"])
def test_damaged_unfinished_work_is_made_again_and_ends_the_same(run, tmp_path, caplog, what):
    weights = WeightsSection(rule="popo_light")
    summary, whole = run("whole", weights=weights)
    with pytest.raises(KilledError):
        run("killed", kill_at=3, weights=weights)
    files = sorted((tmp_path / "killed" / ".parts").glob(f"{what}.*/**/*.*"))
    victim = next(p for p in files if p.suffix in (".safetensors", ".part"))
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    again, resumed = run("killed", weights=weights)
    assert "set aside" in caplog.text
    assert again == summary
    tables = [read_parquet(out / "rollouts.parquet", ROLLOUTS) for out in (whole, resumed)]
    assert tables[0].equals(tables[1])


def test_fewer_prompts_than_a_step_takes_are_refused(run):
    with pytest.raises(DataError, match=r"raise data\.num_rl"):
        run(prompts_per_step=NUM_EXAMPLES + 1)


def test_without_exposures_the_meaning_alone_is_paid(run):
    """There is no ranking model to ask, so nothing is said of preference, not even 0."""
    summary, out = run(out="alone", exposures=False)
    assert summary["w_semantic"] == 1.0
    assert "w_preference" not in summary
    rollouts = read_parquet(out / "rollouts.parquet", ROLLOUTS)
    assert rollouts["preference"].null_count == rollouts.num_rows > 0
    steps = read_jsonl(out / "metrics.jsonl")
    assert not any("preference" in name or "constant_reward" in name for name in steps[0])


def test_without_exposures_a_preference_alone_cannot_be_paid(run):
    rewards = RewardsSection(semantic=False)
    with pytest.raises(ConfigError, match=r"no exposures.*align\.rewards\.preference=false"):
        run(out="nothing", exposures=False, rewards=rewards)
