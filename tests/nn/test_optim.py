"""SGD and schedules against their formulas written out by hand."""

import numpy as np
import pytest

import starconv as sc
from starconv import nn


def run(steps, **options):
    """w² from w = 1: the values after each step."""
    weight = nn.Parameter([1.0], "float64")
    optimizer = nn.SGD([weight], **options)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        weight.add_grad(2 * weight.value)
        optimizer.step()
        values.append(weight.value.item())
    return values


def test_plain_steps():
    assert run(3, lr=0.25) == [0.5, 0.25, 0.125]
    assert run(1, lr=0.25, maximize=True) == [1.5]
    assert run(1, lr=0.25, weight_decay=2) == [0.0]


def test_momentum_begins_with_the_gradient_itself():
    # v = 2, w = 0.8; v = 1 + 0.75 * 1.6 = 2.2, w = 0.58 with dampening 0.25 and momentum 0.5
    assert run(2, lr=0.1, momentum=0.5, dampening=0.25) == pytest.approx([0.8, 0.58])


def test_nesterov():
    # g = 2, v = 2: w = 1 - 0.1 (2 + 1) = 0.7; g = 1.4, v = 2.4: w = 0.7 - 0.1 (1.4 + 1.2) = 0.44
    assert run(2, lr=0.1, momentum=0.5, nesterov=True) == pytest.approx([0.7, 0.44])


def test_parameters_without_a_gradient_stay():
    still, moved = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = nn.SGD([still, moved], lr=0.5, momentum=0.9, weight_decay=0.1)
    moved.add_grad(np.ones(1, "float32"))
    before = moved.value
    optimizer.step()
    assert still.value == 1
    assert before == 1  # what was handed out is not changed under the reader
    assert moved.value != 1
    assert moved.value.dtype == np.float32
    assert list(optimizer.state_dict()) == ["1"]
    optimizer.lr = np.float64(0.1)
    moved.grad = np.ones(1)  # of a user's own making
    optimizer.step()
    assert moved.value.dtype == np.float32


def test_velocity_goes_on_from_a_state():
    whole = run(4, lr=0.1, momentum=0.9)
    weight = nn.Parameter([1.0], "float64")
    first = nn.SGD([weight], lr=0.1, momentum=0.9)
    for optimizer in (first, nn.SGD([weight], lr=0.1, momentum=0.9)):
        if optimizer is not first:
            optimizer.load_state_dict(first.state_dict())
        for _ in range(2):
            optimizer.zero_grad()
            weight.add_grad(2 * weight.value)
            optimizer.step()
    assert weight.value.item() == whole[-1]
    for state in ({"2": [1.0]}, {"x": [1.0]}, {"0": [1.0, 2.0]}):
        with pytest.raises(sc.ArgumentValueError):
            first.load_state_dict(state)


def test_schedules_change_the_rate_after_every_epoch():
    optimizer = nn.SGD([], lr=0.4)
    schedule = nn.StepLR(optimizer, 2, gamma=0.5)
    rates = []
    for _ in range(5):
        rates.append(optimizer.lr)
        schedule.step()
    assert rates == [0.4, 0.4, 0.2, 0.2, 0.1]
    schedule.go_to(1)
    assert optimizer.lr == 0.4
    cosine = nn.CosineAnnealingLR(nn.SGD([], lr=1.0), 10, eta_min=0.2)
    assert cosine.rate(0) == 1
    assert cosine.rate(5) == pytest.approx(0.6)
    assert cosine.rate(10) == pytest.approx(0.2)
    with pytest.raises(sc.ArgumentTypeError):
        nn.StepLR(None, 2)
    with pytest.raises(sc.ArgumentValueError):
        nn.CosineAnnealingLR(optimizer, 0)
