import dataclasses

import numpy as np
import pytest
import torch

from taiji.ranking.model import Batch, CtcvrModel, Logits, ModelShape, esmm_loss

SHAPE = ModelShape(
    num_dense=3,
    field_rows=(9, 5, 4),
    l3_field=1,
    num_codes=4,
    sub_codes=2,
    own_items=6,
    neighbour_items=5,
    vector_width=4,
    attention="dot",
    dim=8,
    hidden=(16,),
)


BOTH_WAYS = pytest.mark.parametrize("kind", ["dot", "din"])


def make_model(kind="dot"):
    torch.manual_seed(3)
    model = CtcvrModel(dataclasses.replace(SHAPE, attention=kind))
    with torch.no_grad():
        for table in model.tables:
            table.weight[1:].normal_()
    return model


def make_batch(rows=12, seed=0, length=6):
    random = torch.Generator().manual_seed(seed)

    def ints(high, *shape):
        return torch.randint(high, shape, generator=random)

    own = ints(9, rows, length)
    own[:, length - 2 :] = 0
    neighbour = ints(9, rows, 5)
    return Batch(
        dense=torch.randn(rows, 3, generator=random),
        fields=torch.stack([ints(high, rows) for high in SHAPE.field_rows], dim=1),
        own_items=own,
        own_l3=ints(5, rows, length) * (own > 0),
        neighbour_items=neighbour,
        neighbour_l3=ints(5, rows, 5) * (neighbour > 0),
        codes=ints(5, rows, 2),
        vectors=torch.randn(rows, 4, generator=random),
    )


@BOTH_WAYS
def test_ctcvr_is_the_product_of_ctr_and_cvr_and_never_above_ctr(kind):
    logits = make_model(kind)(make_batch())
    ctr, cvr = torch.sigmoid(logits.ctr), torch.sigmoid(logits.cvr)
    ctcvr = logits.log_ctcvr().exp()
    torch.testing.assert_close(ctcvr, ctr * cvr, atol=1e-6, rtol=1e-6)
    neither = logits.log_no_ctcvr().exp()
    torch.testing.assert_close(ctcvr + neither, torch.ones_like(ctcvr), atol=1e-6, rtol=1e-5)
    assert ((ctcvr > 0) & (ctcvr <= ctr)).all()


def test_the_click_loss_does_not_reach_the_conversion_tower():
    model = make_model()
    logits = model(make_batch())
    torch.nn.functional.binary_cross_entropy_with_logits(logits.ctr, torch.ones(12)).backward()
    assert all(parameter.grad is None for parameter in model.cvr.parameters())
    assert all(parameter.grad is not None for parameter in model.ctr.parameters())


@BOTH_WAYS
def test_more_padding_changes_nothing(kind):
    model, batch = make_model(kind), make_batch()
    pad = torch.zeros(12, 30, dtype=torch.long)
    longer = dataclasses.replace(
        batch,
        own_items=torch.cat([batch.own_items, pad], dim=1),
        own_l3=torch.cat([batch.own_l3, pad], dim=1),
    )
    short, long = model(batch), model(longer)
    torch.testing.assert_close(short.ctr, long.ctr, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(short.cvr, long.cvr, atol=1e-6, rtol=1e-5)


@BOTH_WAYS
def test_an_empty_history_is_finite_and_the_same_at_any_length(kind):
    model, batch = make_model(kind), make_batch()
    nothing, no_column = torch.zeros(12, 6, dtype=torch.long), torch.zeros(12, 0, dtype=torch.long)
    padded = model(dataclasses.replace(batch, own_items=nothing, own_l3=nothing))
    absent = model(dataclasses.replace(batch, own_items=no_column, own_l3=no_column))
    assert torch.isfinite(padded.ctr).all()
    torch.testing.assert_close(padded.ctr, absent.ctr, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(padded.ctr, model(batch).ctr)


@BOTH_WAYS
def test_scores_do_not_depend_on_the_rest_of_the_batch(kind):
    model, batch = make_model(kind), make_batch()
    one = Batch(**{f.name: getattr(batch, f.name)[4:5] for f in dataclasses.fields(Batch)})
    torch.testing.assert_close(model(one).cvr[0], model(batch).cvr[4], atol=1e-6, rtol=1e-5)


@BOTH_WAYS
def test_the_order_of_a_padded_tail_does_not_matter(kind):
    # what stands where the items are padding is never looked at by the attention
    model, batch = make_model(kind), make_batch()
    shuffled = batch.own_items[:, torch.tensor([0, 4, 1, 5, 2, 3])]
    moved = batch.own_l3[:, torch.tensor([0, 4, 1, 5, 2, 3])]
    other = model(dataclasses.replace(batch, own_items=shuffled, own_l3=moved))
    torch.testing.assert_close(other.ctr, model(batch).ctr, atol=1e-6, rtol=1e-5)


def test_vectors_reach_both_towers_and_zeros_are_those_of_nobody():
    model, batch = make_model(), make_batch()
    zeros = model(dataclasses.replace(batch, vectors=torch.zeros(12, 4)))
    with torch.no_grad():
        model.vectors.weight.zero_()
    blind = model(batch)
    assert torch.equal(zeros.ctr, blind.ctr)
    assert torch.equal(zeros.cvr, blind.cvr)
    told = make_model()(batch)
    assert not torch.isclose(told.ctr, blind.ctr).any()
    assert not torch.isclose(told.cvr, blind.cvr).any()


def test_the_loss_by_hand():
    # p = .5, q = .25: click without conversion -> -ln .5 - ln(1 - .125); no click -> 2 parts alike
    logits = Logits(torch.zeros(2), torch.full((2,), float(np.log(1 / 3))))
    loss = esmm_loss(logits, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]))
    assert loss.item() == pytest.approx(-np.log(0.5) - np.log(0.875), rel=1e-6)


def test_gradients_of_the_loss_are_right_in_float64():
    random = torch.Generator().manual_seed(1)
    a, b = (torch.randn(7, generator=random, dtype=torch.float64) * 3 for _ in range(2))
    click = torch.tensor([1, 1, 0, 0, 1, 0, 1.0], dtype=torch.float64)
    conversion = torch.tensor([1, 0, 0, 0, 1, 0, 0.0], dtype=torch.float64)
    a.requires_grad_()
    b.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: esmm_loss(Logits(x, y), click, conversion), (a, b))


@pytest.mark.parametrize("ctr", [-60.0, 60.0])
@pytest.mark.parametrize("cvr", [-60.0, 60.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_extreme_logits_keep_loss_and_gradient_finite(ctr, cvr, label):
    a, b = torch.tensor([ctr], requires_grad=True), torch.tensor([cvr], requires_grad=True)
    loss = esmm_loss(Logits(a, b), torch.tensor([label]), torch.tensor([label]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(b.grad).all()
