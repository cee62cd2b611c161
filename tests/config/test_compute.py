import pytest
from pydantic import ValidationError

from taiji.config import Recipe, TrainingCompute


def training(**settings):
    return {"training": settings}


def test_what_a_step_takes_is_shared_out_among_all_processes():
    # 24 processes: 768 examples are 32 each
    compute = TrainingCompute(processes=8, machines=3, address="head", port=29500)
    assert compute.share("sft.batch_size", 768) == 32
    assert compute.share("align.prompts_per_step", 96) == 4


def test_what_cannot_be_shared_out_is_refused_with_the_arithmetic():
    with pytest.raises(
        ValidationError, match=r"sft.batch_size: 10 on 4 processes is 2\.5 each: choose a multiple"
    ):
        Recipe.model_validate(
            {"name": "r", "sft": {"batch_size": 10}, "compute": training(processes=4)}
        )
    machines = {"processes": 8, "machines": 2, "address": "head", "port": 29500}
    with pytest.raises(
        ValidationError, match=r"prompts_per_step: 8 on 16 processes \(2 machines x 8\) is 0\.5"
    ):
        Recipe.model_validate(
            {"name": "r", "sft": {"batch_size": 16}, "compute": training(**machines)}
        )


@pytest.mark.parametrize(
    ("each", "most", "micro_batches"),
    [(32, None, 1), (32, 32, 1), (32, 8, 4), (32, 9, 4), (6, 4, 2), (7, 3, 7), (1, 1, 1)],
)
def test_a_process_accumulates_as_little_as_fits(each, most, micro_batches):
    compute = TrainingCompute(sequences_at_a_time=most)
    assert compute.micro_batches(each) == micro_batches
    assert each % micro_batches == 0


def test_several_machines_need_a_place_to_meet():
    with pytest.raises(ValidationError, match="set both"):
        TrainingCompute(machines=2)


def test_options_that_have_a_setting_of_their_own_are_refused():
    with pytest.raises(ValidationError, match="nnodes: set by the settings"):
        TrainingCompute(launcher={"nnodes": 2})


def test_processes_are_no_part_of_a_result():
    from taiji.pipeline import STAGES

    read = {section for stage in STAGES for section in stage.sections}
    of_compute = {section for section in read if section.startswith("compute")}
    assert of_compute == {"compute.training.mixed_precision"}  # which rounds
