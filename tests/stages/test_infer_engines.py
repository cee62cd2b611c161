"""`infer` asks by any engine: the same texts at temperature 0, the same resume, none paid twice."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fake_vllm
import pyarrow as pa
import pytest
import test_infer
import torch
from chat_server import Answer, ChatServer, completion
from model_server import Writers
from pydantic import ValidationError
from transformers import LlamaForCausalLM

from taiji import schema
from taiji.config import InferSection, Recipe
from taiji.language import engines
from taiji.language.models import SMOLLM2, load_causal_lm
from taiji.stages import infer as stage
from taiji.stages.parts.asked_models import AskedModel
from taiji.stages.parts.context import StageContext
from taiji.store.files import read_parquet

ctx = test_infer.ctx  # a fixture: three tiny models and six examples

NUM_CALLS, CONCURRENCY = 11, 2


class StopError(Exception):
    """Stands in for a kill."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def different(ctx):
    """Three models that write differently."""
    for place, name in enumerate(("student", "sft/model", "align/model")):
        folder = ctx.out.parent / name
        model = LlamaForCausalLM.from_pretrained(folder)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(place)
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_pretrained(folder)
    return ctx


@pytest.fixture
def writers(different, smollm2_tokenizer):
    """All three models behind a server, each under its name in the run."""
    root = different.out.parent
    folders = {"untuned": "student", "sft": "sft/model", "policy": "align/model"}
    models = {
        name: LlamaForCausalLM.from_pretrained(root / folder).eval()
        for name, folder in folders.items()
    }
    return Writers(models, smollm2_tokenizer)


@pytest.fixture
def server(writers):
    started = ChatServer(writers)
    yield started
    started.close()


def engine(url, **options):
    return {"kind": "openai", "base_url": url, "concurrency": CONCURRENCY, **options}


def asking(ctx, out, progress=None, key="", **settings) -> StageContext:
    """The stage with other settings of `infer`, into a folder of its own."""
    folder = ctx.out.parent / out / "infer"
    folder.mkdir(parents=True, exist_ok=True)
    section = InferSection.model_validate({"temperature": 0.0, **settings})
    recipe = ctx.recipe.model_copy(update={"infer": section})
    return replace(ctx, recipe=recipe, out=folder, progress=progress or ctx.progress, key=key)


def texts(ctx: StageContext) -> pa.Table:
    stage.infer(ctx)
    return read_parquet(ctx.out / "texts.parquet", schema.TEXTS)


def test_a_server_writes_what_transformers_writes(different, server, writers):
    here = texts(asking(different, "here"))
    there = texts(asking(different, "there", engine=engine(server.url)))
    assert there.equals(here)
    assert len(set(there["completion"].to_pylist())) > 3  # each model says something else
    assert writers.calls.total() == NUM_CALLS


def test_stopped_at_half_it_repeats_at_most_the_calls_under_way(different, server, writers):
    def stop(done, total, what):
        if writers.calls.total() >= NUM_CALLS // 2:
            raise StopError

    with pytest.raises(StopError):
        stage.infer(asking(different, "there", stop, engine=engine(server.url)))
    assert NUM_CALLS // 2 <= writers.calls.total() < NUM_CALLS
    again = texts(asking(different, "there", engine=engine(server.url)))
    assert again.equals(texts(asking(different, "here")))
    assert len(writers.calls) == NUM_CALLS
    assert writers.calls.total() <= NUM_CALLS + CONCURRENCY


def test_what_was_paid_for_serves_again_under_other_settings(different, server, writers):
    texts(asking(different, "there", engine=engine(server.url)))
    texts(asking(different, "there", models=["sft"], engine=engine(server.url, concurrency=1)))
    assert writers.calls.total() == NUM_CALLS


def test_other_weights_under_the_same_name_are_asked_anew(different, server, writers, tiny_model):
    texts(asking(different, "there", engine=engine(server.url)))
    tiny_model.save_pretrained(different.inputs["align"] / "model")
    writers.models["policy"] = tiny_model
    again = asking(different, "there", key="of other inputs", engine=engine(server.url))
    here = texts(asking(different, "here"))
    assert texts(again).equals(here)
    assert writers.calls.total() == NUM_CALLS + 5  # the policy's


def test_each_model_may_have_an_engine_of_its_own(different, server, writers):
    settings = {"engines": {"policy": engine(server.url, model="policy")}}
    assert texts(asking(different, "there", **settings)).equals(texts(asking(different, "here")))
    assert {name for name, _ in writers.calls} == {"policy"}


def test_a_server_of_messages_is_asked_in_messages(different):
    said = "<think>It ran out.</think><answer>Tea</answer>"
    server = ChatServer(lambda request, number: completion(said))
    try:
        chat = engine(server.url, prompts="chat", model="m")
        rows = texts(asking(different, "there", models=["sft"], engine=chat)).to_pylist()
    finally:
        server.close()
    assert {row["answer"] for row in rows} == {"Tea"}
    assert {request.path for request in server.requests} == {"/v1/chat/completions"}
    assert {request.body["model"] for request in server.requests} == {"m"}
    assert "Buys tea." in server.requests[0].body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(body={"choices": [{"text": "a</think><answer>", "finish_reason": "length"}]}), "truncated"),  # noqa: E501
        (Answer(body={"choices": [{"text": "", "finish_reason": "stop"}]}), "empty"),
        (Answer(body={"choices": [{"text": "tea", "finish_reason": "stop"}]}), "malformed"),
        (Answer(body={"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}), "malformed"),  # noqa: E501
    ],
)  # fmt: skip
def test_a_reply_to_token_ids_has_a_status_as_any_other(different, answer, status):
    server = ChatServer(lambda request, number: answer)
    try:
        rows = texts(asking(different, "there", models=["sft"], engine=engine(server.url)))
    finally:
        server.close()
    assert set(rows["status"].to_pylist()) == {status}


def test_vllm_is_handed_the_prompts_of_transformers(different, monkeypatch, server, writers):
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm)
    asked, answer = [], fake_vllm.LLM.generate

    def generate(llm, *args, **kwargs):
        asked.append(llm)
        return answer(llm, *args, **kwargs)

    monkeypatch.setattr(fake_vllm.LLM, "generate", generate)
    rows = texts(asking(different, "there", engine={"kind": "vllm", "dtype": "float32"}))
    assert set(rows["status"].to_pylist()) == {"malformed"}  # it writes its seed
    assert [llm.dtype for llm in asked] == ["float32"] * 3
    sent = [tuple(request["prompt_token_ids"]) for llm in asked for request, _ in llm.requests]
    texts(asking(different, "server", engine=engine(server.url)))
    assert sorted(sent) == sorted(ids for _, ids in writers.calls.elements())


def test_a_model_writes_in_the_precision_of_its_engine(ctx):
    section = InferSection.model_validate({"engine": {"kind": "transformers", "dtype": "bfloat16"}})
    model = str(ctx.inputs["align"] / "model")
    generator = engines.open_generator(section.engine, model, name="policy")
    assert generator._model.dtype == torch.bfloat16


def test_an_engine_for_nobody_is_refused():
    engines_of = {"polcy": {"kind": "transformers"}}
    with pytest.raises(ValidationError, match=r"infer\.engines: polcy: no such model"):
        Recipe.model_validate({"name": "r", "infer": {"engines": engines_of}})
    further = {"evaluate": {"models": {"polcy": "m"}}, "infer": {"engines": engines_of}}
    Recipe.model_validate({"name": "r", **further})


@pytest.mark.slow
def test_killed_at_half_it_repeats_at_most_the_calls_under_way(different, server, writers):
    writers.seconds, writers.stop_after = 0.2, NUM_CALLS // 2
    there = asking(different, "there", engine=engine(server.url))
    tests = Path(__file__).parents[1]
    paths = [os.environ.get("PYTHONPATH", ""), str(tests)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, __file__, str(different.out.parent), server.url]
    with subprocess.Popen(command, env=environment) as child:
        while not writers.reached.wait(0.05):
            assert child.poll() is None
        child.kill()
        assert child.wait(20) == -signal.SIGKILL
    assert NUM_CALLS // 2 <= writers.calls.total() < NUM_CALLS
    assert texts(there).equals(texts(asking(different, "here")))
    assert len(writers.calls) == NUM_CALLS
    assert NUM_CALLS <= writers.calls.total() <= NUM_CALLS + CONCURRENCY


@pytest.mark.slow
def test_smollm2_behind_a_server_writes_what_it_writes_here(ctx):
    model, tokenizer = load_causal_lm(SMOLLM2)
    server = ChatServer(Writers({"untuned": model}, tokenizer))
    student = ctx.recipe.student.model_copy(update={"model": SMOLLM2, "max_completion_tokens": 24})
    ctx = replace(ctx, recipe=ctx.recipe.model_copy(update={"student": student}))
    examples = test_infer.rows_of(test_infer.EXAMPLES)
    try:
        here, there = (
            AskedModel("untuned", SMOLLM2, asking(ctx, out, **settings)).texts("all", examples)
            for out, settings in (("here", {}), ("there", {"engine": engine(server.url)}))
        )
    finally:
        server.close()
    assert there.equals(here)  # both round in float32 on this machine
    assert len(set(there["completion"].to_pylist())) > 1


def main() -> None:
    """The child that is killed."""
    root, url = Path(sys.argv[1]), sys.argv[2]
    student = {"model": str(root / "student"), "max_prompt_tokens": 256}
    section = {"temperature": 0.0, "engine": engine(url)}
    recipe = Recipe.model_validate(
        {"name": "tiny", "student": {**student, "max_completion_tokens": 6}, "infer": section}
    )
    inputs = {name: root / name for name in ("construct", "sft", "align")}
    stage.infer(StageContext(recipe, root / "there" / "infer", inputs, lambda *_: None))


if __name__ == "__main__":
    main()
