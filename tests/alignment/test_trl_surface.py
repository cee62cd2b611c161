"""Taiji's view of TRL's trainer, against the release that is installed."""

import ast
import inspect
from typing import get_args, get_type_hints

import pytest
from toy import A
from trl import GRPOConfig, GRPOTrainer
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import is_async_callable, nanstd

from taiji.alignment import PopoTrainer
from taiji.alignment.popo import trainer as trainer_file
from taiji.alignment.trl_surface import GrpoTrainer
from taiji.config.align import LossType

# TRL 1.16 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

METHODS = [
    name
    for name, value in vars(GrpoTrainer).items()
    if inspect.isfunction(value) and value.__module__ == GrpoTrainer.__module__
]


def parameters(function):
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


def names(function):
    return [name for name, _ in parameters(function)]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_we_override_or_call_has_the_signature_that_we_count_on(name):
    theirs = inspect.unwrap(getattr(GRPOTrainer, name))
    assert parameters(theirs) == parameters(getattr(GrpoTrainer, name))


def test_all_methods_are_looked_at():
    assert {"_compute_loss", "_calculate_rewards", "_prepare_inputs"} <= set(METHODS)
    assert len(METHODS) == 13


def test_every_attribute_that_we_read_or_replace_is_there(make_trainer):
    trainer = make_trainer(max_steps=1)
    trainer.train()
    missing = [name for name in get_type_hints(GrpoTrainer) if not hasattr(trainer, name)]
    assert missing == []
    assert isinstance(trainer.beta, float)
    assert trainer.reward_weights.shape == (len(trainer.reward_funcs),)
    assert A in trainer.reward_func_names
    assert list(trainer._logs["advantages"])
    assert isinstance(trainer._metrics["train"], dict)
    assert isinstance(trainer._buffered_inputs[0], dict)


def test_popo_trainer_touches_no_other_name_of_trl():
    tree = ast.parse(inspect.getsource(trainer_file))
    (own,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "PopoTrainer"]
    touched = {
        node.attr
        for node in ast.walk(own)
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id == "self")
            or (isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()")
        )
    }
    ours = {name for name in vars(PopoTrainer) if not hasattr(GRPOTrainer, name)}
    ours |= {"rule", "_probe", "_update", "_rewards_NK", "_fresh_NK", "_trains_N", "_scorer"}
    ours |= {"_drawn_at", "_generations", "_bonus", "_token_factor", "_factored"}
    listed = {*METHODS, *get_type_hints(GrpoTrainer)}
    assert touched - ours - listed == {"__init__"}
    replaced = {name for name in vars(PopoTrainer) if hasattr(GRPOTrainer, name)}
    replaced = {name for name in replaced if inspect.isfunction(vars(PopoTrainer)[name])}
    assert replaced - listed == {"__init__"}


def test_what_we_import_beside_the_trainer_is_called_as_we_call_it():
    assert names(nanstd)[:2] == ["tensor", "dim"]
    assert names(is_async_callable) == ["func"]
    assert names(ChunkedLogProbFunction.forward) == [
        "ctx", "hidden", "weight", "bias", "targets", "temperature", "chunk_size",
        "final_logit_softcapping", "logit_scale", "outputs",
    ]  # fmt: skip


def test_the_recipe_knows_the_losses_of_trl_and_no_others():
    described = GRPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    supported = described.partition("Supported values are ")[2].partition(".")[0]
    assert supported.count("'") == 2 * len(get_args(LossType))
    assert [loss for loss in get_args(LossType) if f"'{loss}'" not in supported] == []
