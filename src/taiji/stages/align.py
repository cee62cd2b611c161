"""Stage 3, POPO: reinforcement learning on several rewards with adaptive weights (Eq. 3 to 9)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from taiji.alignment.diagnosis import Diagnosis
from taiji.alignment.policy import PolicyRun, policy_prompts, train_policy
from taiji.alignment.rewards.grounding import Grounder
from taiji.alignment.rewards.hacking import popularity_percentiles
from taiji.alignment.rewards.preference import PreferenceReward
from taiji.alignment.rewards.reward import Rollout
from taiji.alignment.rollouts import PolicyRewards, RolloutJudge
from taiji.config import AlignSection
from taiji.data.catalogue import coverage
from taiji.data.item_text import item_texts
from taiji.errors import ConfigError
from taiji.language.encode import SentenceEncoder
from taiji.language.encoder_caches import CachedEncoder, RecentTexts
from taiji.language.models import load_causal_lm, save_whole
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.prompts import prompt_fitter
from taiji.schema import ROLLOUTS
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.paid_rewards import RunSoFar, paid_rewards, watchers
from taiji.stages.parts.preferences import Preferences, ladder, load_preferences
from taiji.store.files import append_jsonl, read_jsonl, read_parquet, replacing
from taiji.store.shards import Shards
from taiji.store.vouched import set_aside
from taiji.training.checkpoints import METRICS, newest_here, restore_metrics
from taiji.training.model_card import model_card
from taiji.training.processes import first_says, is_first, shards


def align(ctx: StageContext) -> Summary:
    """Write `model/`, `metrics.jsonl` (a row for each step) and `rollouts.parquet`.

    Raises:
        ConfigError: A reward of the recipe cannot be imported.
        DataError: There is no example for alignment, or the table of scores is damaged.
    """
    section, student = paid_section(ctx), ctx.recipe.student
    logs = Constructed(ctx.inputs["construct"])
    rows = logs.targeted_rows("rl")
    names = ("example_id", "user_id", "cutoff", "target_item_id")
    examples = pa.table({name: rows.column(name) for name in names})
    training = ctx.recipe.compute.training
    source = str(ctx.inputs["sft"] / "model")
    model, tokenizer = load_causal_lm(source, shards=shards(training))
    scaffold = ChatScaffold(tokenizer)
    end_ids = _end_turns_with(model, tokenizer, scaffold.end_id)
    fitter = prompt_fitter(ctx.recipe, scaffold)
    prompts, lost = policy_prompts(rows.dicts(), fitter)
    catalogue = logs.catalogue(examples, ctx.recipe.encoder.catalogue_titles)
    ctx.progress(0, section.steps, f"embedding {catalogue.num_rows} titles")
    preferences = load_preferences(ctx, logs, examples)
    preference = None if preferences is None else preferences.reward
    judge = _build_judge(ctx, logs.items, examples, catalogue, preference, end_ids)
    paid = paid_rewards(
        section.rewards,
        lambda: RunSoFar(ctx, logs, logs.targeted_examples("rl"), catalogue, judge.encoder),
    )
    rewards = PolicyRewards(judge, paid)
    run = PolicyRun(
        section, student.max_completion_tokens, ctx.recipe.seed, ctx.parts("checkpoints"), training
    )
    diagnosis = replace(
        _diagnosis(logs, examples, preferences),
        num_answers=student.answers,
        of_lists=section.rewards.answers,
        watchers=watchers(paid),
    )
    record = _Record(ctx, run.folder, rewards.names, diagnosis)
    num_trained = train_policy(model, tokenizer, prompts, rewards, run, record.on_step)
    summary = first_says(record.finish) | {
        "trained_parameters": num_trained,
        "target_coverage": round(_coverage(logs.items, examples, catalogue), 4),
        **lost,
    }
    _save(ctx, model, tokenizer, summary)
    return summary


def paid_section(ctx: StageContext) -> AlignSection:
    """The settings of alignment, without the preference where there is nothing to take it from.

    Raises:
        ConfigError: Nothing is left to pay, or weights are set for what is not paid.
    """
    section = ctx.recipe.align
    if not section.rewards.preference or section.rewards.scores or "simulate" in ctx.inputs:
        return section
    tree = section.model_dump()
    tree["rewards"]["preference"] = False
    try:
        return AlignSection.model_validate(tree)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigError(
            f"align: this log has no exposures, so the preference cannot be paid: {reason}: set "
            "align.rewards.preference=false and weights for the other rewards"
        ) from error


def _end_turns_with(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end_id: int
) -> frozenset[int]:
    """Generation must stop where SFT taught to, whatever the folder says; all ends there are."""
    config = model.generation_config
    assert config is not None, "a causal language model can generate"
    known = config.eos_token_id
    listed = known if isinstance(known, list) else [] if known is None else [known]
    config.eos_token_id = sorted({*listed, end_id})
    return frozenset({*config.eos_token_id, tokenizer.eos_token_id})


def _build_judge(
    ctx: StageContext,
    items: pa.Table,
    examples: pa.Table,
    catalogue: pa.Table,
    preference: PreferenceReward | None,
    end_ids: frozenset[int],
) -> RolloutJudge:
    encoder = SentenceEncoder(ctx.recipe.encoder.model, ctx.recipe.encoder.batch_size)
    # Items come again in other runs and stages, answers only within this one.
    cached, rewards = CachedEncoder(encoder), ctx.recipe.align.rewards
    targets = items.take(pc.index_in(examples["target_item_id"], value_set=items["item_id"]))
    targets_ND = cached.encode(item_texts(targets))
    return RolloutJudge(
        targets=dict(zip(examples["example_id"].to_pylist(), targets_ND, strict=True)),
        encoder=RecentTexts(encoder),
        grounder=Grounder(items, cached, catalogue=catalogue, ladder=ladder(rewards)),
        preference=preference,
        form="binary" if rewards.format == "binary" else "graded",
        end_ids=end_ids,
        num_answers=ctx.recipe.student.answers,
        of_lists=rewards.answers,
    )


def _diagnosis(logs: Constructed, examples: pa.Table, preferences: Preferences | None) -> Diagnosis:
    """What is known of popularity when alignment begins."""
    log = logs.taken
    before = log["item_id"].filter(pc.less(log["ts"], pc.min(examples["cutoff"])))
    item_ids: list[str] = logs.items["item_id"].to_pylist()
    places = pc.index_in(before, value_set=logs.items["item_id"]).drop_null()
    sold_I = np.bincount(np.asarray(places, dtype=np.int64), minlength=len(item_ids))
    targets = (examples[name].to_pylist() for name in ("example_id", "target_item_id"))
    return Diagnosis(
        preference=None if preferences is None else preferences.probe,
        constants=() if preferences is None else preferences.constants,
        popularity=popularity_percentiles(item_ids, sold_I),
        targets=dict(zip(*targets, strict=True)),
    )


class _Record:
    """Keeps what each step reports, so that a kill loses nothing and a resume repeats nothing."""

    def __init__(
        self,
        ctx: StageContext,
        checkpoints: Path,
        reward_names: Sequence[str],
        diagnosis: Diagnosis,
    ) -> None:
        self._ctx = ctx
        self._reward_names = reward_names
        self._diagnosis = diagnosis
        self._steps = ctx.recipe.align.steps
        self._shards = Shards(ctx.parts("rollouts"), ROLLOUTS)
        self._metrics = restore_metrics(checkpoints, first_says(lambda: self._resumed(checkpoints)))

    def on_step(self, row: dict[str, float], rollouts: list[Rollout]) -> None:
        step = int(row["step"])
        rows = [
            {"step": step, **vars(rollout), "custom": list(rollout.custom.items()) or None}
            for rollout in rollouts
        ]
        self._shards.write(step - 1, pa.Table.from_pylist(rows, ROLLOUTS))
        seen = self._diagnosis.figures(rollouts) if rollouts else {}
        append_jsonl({**row, **seen}, self._metrics)
        self._ctx.progress(step, self._steps, "steps")

    def finish(self) -> Summary:
        """Merge the rollouts; a few figures of the first and the last step."""
        merged = self._ctx.out / "rollouts.parquet"
        self._shards.merge(self._steps, merged)
        rollouts = read_parquet(merged, ROLLOUTS)
        with replacing(self._ctx.out / METRICS) as temporary:
            temporary.write_bytes(self._metrics.read_bytes())
        rows = read_jsonl(self._metrics)
        summary: Summary = {"steps": len(rows), "rollouts": rollouts.num_rows}
        for name in self._reward_names:
            for label, key, place in (
                (f"w_{name}", f"w_{name}", -1),
                (f"first_{name}", f"rewards/{name}/mean", 0),
                (f"last_{name}", f"rewards/{name}/mean", -1),
            ):
                # A step has no new rollouts, or a reward nothing to say of them.
                if told := [row[key] for row in rows if key in row]:
                    summary[label] = round(told[place], 4)
        statuses, rungs = rollouts["status"].to_pylist(), rollouts["rung"].to_pylist()
        summary["without_answer"] = len(statuses) - statuses.count("ok")
        summary["ungrounded"] = rungs.count("none")
        return summary

    def _resumed(self, checkpoints: Path) -> Path | None:
        """The checkpoint to go on from; of no use without the rollouts of all steps before it."""
        newest = newest_here(checkpoints)
        if newest is None:
            return None
        path, step = newest
        if all(self._shards.done(index) for index in range(step)):
            return path
        set_aside(path, "has lost rollouts of a step before it")
        return None


def _coverage(items: pa.Table, examples: pa.Table, catalogue: pa.Table) -> float:
    titles = dict(zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True))
    targets = examples["target_item_id"].to_pylist()
    return coverage(catalogue, [titles[item] for item in targets])


def _save(
    ctx: StageContext,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    figures: Summary,
) -> None:
    """A folder that transformers loads, with a model card."""
    folder, section = ctx.out / "model", paid_section(ctx)
    save_whole(model, folder)
    if not is_first():
        return
    tokenizer.save_pretrained(folder)
    settings = {
        "rule": section.weights.rule,
        "eta, mu": f"{section.weights.eta}, {section.weights.mu}",
        "prompts and rollouts per step": f"{section.prompts_per_step} x {section.num_generations}",
        "learning rate": section.learning_rate,
        "beta (KL)": section.beta,
        "trained layers": section.trainable_layers or "all",
        "seed": ctx.recipe.seed,
        **{name.replace("_", " "): value for name, value in figures.items()},
    }
    card = model_card(
        title="Policy after POPO",
        base_model=f"{ctx.recipe.student.model}, fine-tuned by ORFT",
        trained_on=(
            "Its own rollouts on prompts of the log, rewarded for "
            f"{', '.join(section.rewards.names)}: likeness to the true next item, what the ranking "
            "model or a table of scores expects, and whatever else the recipe pays."
        ),
        settings=settings,
    )
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
