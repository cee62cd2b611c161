import pytest

from taiji.config import Recipe
from taiji.screen import wishes as module
from taiji.screen.wishes import Accelerators, hardware, servers, wishes

EIGHT = Accelerators(("H100",) * 8, 80 * 2**30, bfloat16=True, nccl="2.27.3")
NONE = Accelerators()


def recipe(**sections):
    return Recipe.model_validate({"name": "r", **sections})


def verdicts(findings):
    return {finding.what: finding.verdict for finding in findings}


def training(**settings):
    return {"kind": "local", "training": settings}


def test_the_hardware_is_named():
    words = {finding.what: finding.found for finding in hardware(EIGHT)}
    assert words["GPUs"] == "8 x H100, 80 GiB each"
    assert words["NCCL"] == "2.27.3"
    assert "CPU" in {finding.what: finding.found for finding in hardware(NONE)}["GPUs"]


def test_more_processes_than_gpus_fail():
    asked = recipe(compute=training(processes=16), sft={"batch_size": 16}, align={"prompts_per_step": 16})  # noqa: E501  # fmt: skip
    assert verdicts(wishes(asked, EIGHT))["training"] == "fail"
    assert verdicts(wishes(asked, NONE))["training"] == "warn"


def test_bfloat16_that_gpus_lack_fails_and_on_a_cpu_is_a_warning():
    asked = recipe(compute=training(mixed_precision="bf16"))
    old = Accelerators(("V100",), 32 * 2**30)
    assert verdicts(wishes(asked, old))["mixed precision"] == "fail"
    assert verdicts(wishes(asked, NONE))["mixed precision"] == "warn"
    assert "mixed precision" not in verdicts(wishes(asked, EIGHT))


def test_a_model_too_large_for_a_gpu_is_said_and_shares_of_it_fit():
    large = {
        "student": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "max_prompt_tokens": 2000},
        "align": {"prompts_per_step": 8},
    }
    alone = verdicts(wishes(recipe(**large), EIGHT))
    assert alone["memory of sft"] == alone["memory of align"] == "warn"
    shares = training(processes=8, strategy="fsdp2")
    assert verdicts(wishes(recipe(compute=shares, **large), EIGHT))["memory of sft"] == "ok"


def test_ray_and_vllm_are_looked_for(monkeypatch):
    asked = recipe(
        compute={"kind": "ray", "workers": 4, "gpus": 4.0},
        infer={"engine": {"kind": "vllm", "tensor_parallel_size": 16}},
    )
    monkeypatch.setattr(module, "_version", lambda package: "")
    found = verdicts(wishes(asked, EIGHT))
    assert (found["compute: ray"], found["infer.engine"]) == ("fail", "fail")
    monkeypatch.setattr(module, "_version", lambda package: "1.0")
    reasons = {finding.what: finding.found for finding in wishes(asked, EIGHT)}
    assert reasons["compute: ray"].startswith("4 workers with 4 GPUs each, and 8 here")
    assert reasons["infer.engine"] == "vllm on 16 GPUs, and 8 here"


@pytest.mark.parametrize("asked", ["distill.teacher", "infer.engine", "infer.engines.policy"])
def test_every_server_is_found(asked):
    url = {"kind": "openai", "base_url": "http://here:1/v1"}
    sections = {
        "distill.teacher": {"distill": {"teacher": {**url, "model": "m"}}},
        "infer.engine": {"infer": {"engine": url}},
        "infer.engines.policy": {"infer": {"engines": {"policy": url}}},
    }
    assert [setting for setting, _ in servers(recipe(**sections[asked]))] == [asked]
