import pytest
import torch

from taiji.alignment.policy import PolicyRun, policy_config
from taiji.config import AlignSection, TrainingCompute
from taiji.errors import ConfigError
from taiji.language.models import in_float32
from taiji.training.processes import wants_bfloat16


@pytest.mark.parametrize(
    ("asked", "on_gpu", "wanted"),
    [("bf16", False, True), ("no", True, False), ("no", False, False), ("auto", False, False)],
)
def test_the_recipe_decides_on_mixed_precision(asked, on_gpu, wanted):
    assert wants_bfloat16(TrainingCompute(mixed_precision=asked), on_gpu) is wanted


def test_a_single_process_trains_a_policy_in_the_precision_that_is_asked_for(tmp_path):
    training = TrainingCompute(mixed_precision="bf16")
    assert policy_config(PolicyRun(AlignSection(), 64, 17, tmp_path, training)).bf16
    assert not policy_config(PolicyRun(AlignSection(), 64, 17, tmp_path)).bf16


@pytest.mark.parametrize(("mixed", "frozen"), [(True, torch.bfloat16), (False, torch.float32)])
def test_without_mixed_precision_all_weights_are_of_one_type(mixed, frozen):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).bfloat16()
    model[0].requires_grad_(False)
    in_float32(model, mixed=mixed)
    assert model[0].weight.dtype == frozen
    assert model[1].weight.dtype == torch.float32


def test_several_generations_a_step_are_refused(tmp_path):
    section = AlignSection.model_validate(
        {"prompts_per_step": 4, "trainer": {"steps_per_generation": 1}}
    )
    with pytest.raises(ConfigError, match="steps_per_generation"):
        policy_config(PolicyRun(section, 64, 17, tmp_path))
