import pytest

from taiji.alignment.policy import PolicyRun, policy_config
from taiji.config import AlignSection, TrainingCompute
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
