"""GBPO is refused where a rule weighs gradients that it would falsify."""

import pytest
from pydantic import ValidationError

from taiji.config import AlignSection
from taiji.rule_settings import ON_GRADIENTS


@pytest.mark.parametrize("rule", sorted(ON_GRADIENTS))
def test_gbpo_is_refused_under_rules_that_weigh_gradients(rule):
    with pytest.raises(ValidationError, match=rf"policy_loss gbpo.*{rule}.*popo_light"):
        AlignSection.model_validate({"policy_loss": "gbpo", "weights": {"rule": rule}})


@pytest.mark.parametrize("rule", ["fixed", "popo_light"])
def test_gbpo_goes_with_rules_that_look_at_rewards_alone(rule):
    section = AlignSection.model_validate({"policy_loss": "gbpo", "weights": {"rule": rule}})
    assert section.policy_loss == "gbpo"
    assert AlignSection().policy_loss == "clipped"


def test_popo_split_is_refused_where_a_step_has_no_two_halves():
    split = {"weights": {"rule": "popo_split"}}
    with pytest.raises(ValidationError, match=r"popo_split.*prompts_per_step must be 2"):
        AlignSection.model_validate(split | {"prompts_per_step": 1})
    assert AlignSection.model_validate(split | {"prompts_per_step": 2}).prompts_per_step == 2
