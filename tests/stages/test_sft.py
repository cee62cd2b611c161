import pyarrow as pa
import pytest
import torch
from reasoning_run import context
from rows import KilledError
from transformers import AutoModelForCausalLM, AutoTokenizer

from taiji.errors import DataError
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.sft import TrainingRow
from taiji.schema import CANDIDATES, SCORED
from taiji.stages import sft as sft_module
from taiji.stages.distill import distill
from taiji.stages.sft import sft
from taiji.store.files import read_jsonl, read_parquet, write_parquet

SECTION = {"batch_size": 4, "num_examples": 20, "learning_rate": 1e-3, "checkpoint_steps": 2}


@pytest.fixture
def refined(run, student):
    """Every second candidate is kept."""
    ctx = context(run, "distill", student)
    distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    for number, row in enumerate(rows):
        kept = number % 2 == 0
        row |= {"perplexity": 2.0, "num_answer_tokens": 9, "kept": kept}
        row["reason"] = "kept" if kept else "perplexity"
    (run / "refine").mkdir()
    table = pa.Table.from_pylist(rows, schema=SCORED)
    write_parquet(table, run / "refine" / "scored.parquet", SCORED)
    return run


def test_the_model_folder_loads_and_tells_where_it_comes_from(refined, student):
    ctx = context(refined, "sft", student, sft=SECTION)
    summary = sft(ctx)
    folder = ctx.out / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokenizer.chat_template
    assert (folder / "generation_config.json").is_file()
    before = AutoModelForCausalLM.from_pretrained(student, local_files_only=True)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(model.state_dict()[name], before.state_dict()[name])
    card = (folder / "README.md").read_text()
    assert str(student) in card
    assert "20 chains of thought of teacher `evidence`" in card
    assert summary["examples"] == 20
    assert summary["last_loss"] < summary["first_loss"]
    shown = {path.name for path in ctx.out.iterdir() if not path.name.startswith(".")}
    assert shown == {"model", "metrics.jsonl"}


def test_there_is_one_metrics_row_for_each_step_also_after_a_kill(refined, student):
    whole = context(refined, "sft", student, sft=SECTION)
    sft(whole)

    def kill(done, total, what):
        if done == 4:
            raise KilledError

    killed = context(refined, "again", student, sft=SECTION, progress=kill)
    with pytest.raises(KilledError):
        sft(killed)
    with (killed.parts("checkpoints") / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "lo')
    seen = []
    sft(
        context(
            refined,
            "again",
            student,
            sft=SECTION,
            progress=lambda *told: seen.append(told),
        )
    )
    assert seen == [(step, 5, "steps") for step in (3, 4, 5)]
    rows = [read_jsonl(ctx.out / "metrics.jsonl") for ctx in (whole, killed)]
    assert [row["step"] for row in rows[0]] == [1, 2, 3, 4, 5]
    assert rows[0] == rows[1]
    weights = [(ctx.out / "model" / "model.safetensors").read_bytes() for ctx in (whole, killed)]
    assert weights[0] == weights[1]


def test_a_damaged_checkpoint_is_named_and_its_steps_are_taken_again(refined, student, caplog):
    whole = context(refined, "sft", student, sft=SECTION)
    sft(whole)

    def kill(done, total, what):
        if done == 4:
            raise KilledError

    with pytest.raises(KilledError):
        sft(context(refined, "again", student, sft=SECTION, progress=kill))
    seen = []
    again = context(refined, "again", student, sft=SECTION, progress=lambda *t: seen.append(t))
    path = again.parts("checkpoints") / "checkpoint-2" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the last weight, one bit: safetensors would read it without a word
    path.write_bytes(data)
    sft(again)
    assert "checkpoint-2: is not what was written there" in caplog.text
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5]
    for name in ("model/model.safetensors", "metrics.jsonl"):
        assert (again.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_chains_too_long_to_be_written_are_left_out(refined, student, smollm2_tokenizer):
    scaffold = ChatScaffold(smollm2_tokenizer)
    rows = read_parquet(refined / "refine" / "scored.parquet", SCORED).to_pylist()
    lengths = sorted(
        len(scaffold.completion_ids(row["cot"], row["answer"]).ids) for row in rows if row["kept"]
    )
    short = {"model": str(student), "max_completion_tokens": lengths[9]}
    short["max_prompt_tokens"] = 210
    summary = sft(context(refined, "sft", student, sft=SECTION, student=short))
    assert summary["prompts_cut"] == summary["examples"] <= summary["history_lines_dropped"]
    assert summary["too_long"] == sum(length > lengths[9] for length in lengths) > 0
    assert summary["examples"] == 30 - summary["too_long"]


def test_nothing_to_train_on_says_what_to_raise(refined, student):
    short = {"model": str(student), "max_completion_tokens": 5}
    with pytest.raises(DataError, match=r"30 longer than student\.max_completion_tokens"):
        sft(context(refined, "sft", student, sft=SECTION, student=short))


def chain(length):
    return sft_module._Chain(TrainingRow([1], [2] * length), "evidence", "u1", 0)


@pytest.mark.parametrize(
    ("max_tokens", "lengths"),
    [
        (3, [3]),
        (9, [3, 4]),
        (12, [3, 4, 5]),
        (14, [3, 4, 5]),
        (15, [3, 4, 5, 3]),
        (31, [3, 4, 5, 3, 4, 5, 3, 4]),
    ],
)
def test_chains_are_repeated_in_order_until_the_budget_is_spent(max_tokens, lengths):
    taken = sft_module._within_budget([chain(3), chain(4), chain(5)], max_tokens)
    assert [len(one.row.completion_ids) for one in taken] == lengths


def test_a_budget_below_the_first_completion_is_refused():
    with pytest.raises(DataError, match=r"sft\.max_tokens: 2: less than the first completion's 3"):
        sft_module._within_budget([chain(3)], 2)


def test_a_budget_of_tokens_replaces_epochs(refined, student):
    section = SECTION | {"max_tokens": 500, "num_examples": 3, "epochs": 1.0}
    summary = sft(context(refined, "sft", student, sft=section))
    assert 400 < summary["completion_tokens"] <= 500
    assert summary["examples"] > 3
    assert summary["steps"] == -(-summary["examples"] // 4)


@pytest.mark.slow
def test_an_adapter_leaves_a_plain_folder(refined, student):
    section = SECTION | {
        "lora": {"rank": 4},
        "num_examples": 8,
    }  # two steps: the first is at rate 0
    ctx = context(refined, "sft", student, sft=section)
    sft(ctx)
    folder = ctx.out / "model"
    assert not list(folder.glob("adapter*"))
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    before = AutoModelForCausalLM.from_pretrained(student, local_files_only=True)
    assert model.state_dict().keys() == before.state_dict().keys()
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(model.state_dict()[name], before.state_dict()[name])
    card = (folder / "README.md").read_text()
    assert "| trained | an adapter of rank 4 on all linear layers, merged |" in card
    assert "| users | 1 |" in card
    assert "**Erased users**: 0" in card
