"""The gradient of every layer, for every argument, against float64 differences along random directions."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import axes, seeds

import starconv as sc
from starconv import nn

FEW = settings(max_examples=25)


def along(function, value, direction, step):
    """d/dt function(value + t direction) at 0."""
    return (function(value + step * direction) - function(value - step * direction)) / (2 * step)


def check_gradients(layer, x, seed=0, step=1e-6, tolerance=1e-6):
    """<d, backward(g)> is the slope of <g, layer(x)> along d: for the input, and for every parameter."""
    generator = np.random.default_rng(seed)
    grad = generator.standard_normal(layer(x).shape)
    layer.zero_grad()
    layer(x)
    towards = layer.backward(grad)
    assert towards.shape == x.shape

    def compare(found, slope):
        assert found == pytest.approx(slope, rel=tolerance, abs=tolerance * (1 + abs(grad).sum()))

    direction = generator.standard_normal(x.shape)
    compare((towards * direction).sum(), along(lambda value: (grad * layer(value)).sum(), x, direction, step))
    for parameter in layer.parameters():
        assert parameter.grad.shape == parameter.value.shape
        assert parameter.grad.dtype == parameter.value.dtype
        value, direction = parameter.value, generator.standard_normal(parameter.value.shape)

        def moved(new, parameter=parameter):
            parameter.value = new
            return (grad * layer(x)).sum()

        compare((parameter.grad * direction).sum(), along(moved, value, direction, step))
        parameter.value = value


@st.composite
def conv_layers(draw):
    """A layer, and an input that it takes."""
    spatial = draw(st.sampled_from([1, 2, 2, 3]))
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[spatial]
    found = [draw(axes(border="edge", longest={1: 12, 2: 7, 3: 4}[spatial])) for _ in range(spatial)]
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    pairs = tuple((axis.before, axis.after) for axis in found)
    layer = kind(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        tuple(axis.kernel for axis in found),
        tuple(axis.stride for axis in found),
        draw(st.sampled_from([pairs, "same", "full"])),
        tuple(axis.dilation for axis in found),
        groups,
        draw(st.booleans()),
        draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular", "symmetric"])),
        dtype="float64",
        seed=draw(seeds),
    )
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    shape = (*batch, layer.in_channels, *(axis.input for axis in found))
    return layer, np.random.default_rng(draw(seeds)).standard_normal(shape)


@settings(max_examples=50)
@given(conv_layers(), seeds)
def test_convolutions(case, seed):
    layer, x = case
    check_gradients(layer, x, seed)


@st.composite
def transposed_layers(draw):
    spatial = draw(st.sampled_from([1, 2, 2, 3]))
    kind = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[spatial]
    found = [draw(axes(border="edge", longest={1: 9, 2: 5, 3: 3}[spatial])) for _ in range(spatial)]
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    arguments = {
        "kernel_size": tuple(axis.kernel for axis in found),
        "stride": tuple(axis.stride for axis in found),
        "padding": draw(
            st.sampled_from([tuple(axis.before for axis in found), tuple((a.before, a.after) for a in found), "full"])
        ),
        "output_padding": tuple(draw(st.integers(0, max(axis.stride, axis.dilation) - 1)) for axis in found),
        "dilation": tuple(axis.dilation for axis in found),
    }
    sizes = tuple(axis.input for axis in found)
    try:
        sc.output_size(sizes, transposed=True, **arguments)
    except sc.ArgumentValueError:
        assume(False)
    layer = kind(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        groups=groups,
        bias=draw(st.booleans()),
        dtype="float64",
        seed=draw(seeds),
        **arguments,
    )
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    return layer, np.random.default_rng(draw(seeds)).standard_normal((*batch, layer.in_channels, *sizes))


@settings(max_examples=50)
@given(transposed_layers(), seeds)
def test_transposed_convolutions(case, seed):
    layer, x = case
    check_gradients(layer, x, seed)


@FEW
@given(st.integers(1, 4), st.integers(1, 4), st.booleans(), st.sampled_from([(), (1,), (3,), (2, 3)]), seeds)
def test_linear(inputs, outputs, bias, rows, seed):
    layer = nn.Linear(inputs, outputs, bias, dtype="float64", seed=seed)
    check_gradients(layer, np.random.default_rng(seed).standard_normal((*rows, inputs)), seed)


@st.composite
def pools(draw):
    """Arguments of a pool, and sizes that it takes."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.sampled_from([None, 1, 2, (3, 2), (5, 4)]))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    sizes = tuple(draw(st.integers(size, 9)) for size in kernel)
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": draw(st.booleans())}, sizes


def distinct(shape, seed):
    """Numbers that are further apart than a difference step reaches, in random order."""
    return np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape) / 7 - 3


@FEW
@given(pools(), st.sampled_from([(), (2,), (2, 3)]), st.sampled_from([1, 1, 2, (2, 1)]), seeds)
def test_max_pool(case, leading, dilation, seed):
    arguments, sizes = case
    layer = nn.MaxPool2d(**arguments, dilation=dilation)
    try:
        layer.output_shape(sizes)
    except sc.ArgumentValueError:
        assume(False)
    check_gradients(layer, distinct((*leading, *sizes), seed), seed)


@FEW
@given(pools(), st.sampled_from([(), (2, 3)]), st.booleans(), st.sampled_from([None, None, 5]), seeds)
def test_average_pool(case, leading, include, divisor, seed):
    arguments, sizes = case
    layer = nn.AvgPool2d(**arguments, count_include_pad=include, divisor_override=divisor)
    check_gradients(layer, np.random.default_rng(seed).standard_normal((*leading, *sizes)), seed)


@FEW
@given(
    st.one_of(st.integers(1, 9), st.tuples(st.none() | st.integers(1, 9), st.none() | st.integers(1, 9))),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    seeds,
)
def test_adaptive_average_pool(output_size, sizes, seed):
    check_gradients(nn.AdaptiveAvgPool2d(output_size), np.random.default_rng(seed).standard_normal((2, *sizes)), seed)


@FEW
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_batch_norm(shape, training, affine, track, seed):
    assume(shape[0] * shape[2] * shape[3] > 2)
    generator = np.random.default_rng(seed)
    layer = nn.BatchNorm2d(shape[1], affine=affine, track_running_stats=track, eps=0.1, dtype="float64")
    state = layer.state_dict() | {
        name: generator.uniform(0.5, 2, shape[1]) for name in layer.state_dict() if name != "num_batches_tracked"
    }
    layer.load_state_dict(state)
    check_gradients(layer.train(training), generator.standard_normal(shape) * 3 + 1, seed, tolerance=1e-5)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Flatten(), nn.Flatten(0, 1), nn.Dropout(0.3).eval(), nn.Dropout(0)])
def test_by_element(layer):
    check_gradients(layer, distinct((2, 3, 4, 4), 0) + 0.01)


def test_dropout_drops_the_gradient_of_what_it_dropped():
    layer = nn.Dropout(0.25, seed=3)
    x = np.ones((100, 100))
    output = layer(x)
    gradient = layer.backward(2 * x)
    np.testing.assert_array_equal(gradient, 2 * output)
    assert set(np.unique(output)) == {0.0, np.float64(1 / 0.75)}
    assert output.mean() == pytest.approx(1, abs=0.02)
    assert not nn.Dropout(1.0)(x).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x), x)


def test_networks():
    rng = np.random.default_rng(0)
    body = nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1, bias=False, dtype="float64", seed=rng),
        nn.BatchNorm2d(3, dtype="float64"),
        nn.ReLU(),
    )
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, dtype="float64", seed=rng),
        nn.Residual(body),
        nn.Residual(nn.AvgPool2d(2), nn.Conv2d(3, 3, 2, stride=2, dtype="float64", seed=rng)),
        nn.Flatten(),
        nn.Linear(12, 4, dtype="float64", seed=rng),
    )
    check_gradients(network, rng.standard_normal((2, 2, 6, 6)), tolerance=1e-5)


def test_without_the_inputs_gradient_parameters_have_the_same():
    rng = np.random.default_rng(0)
    network = nn.Sequential(
        nn.AvgPool2d(1),
        nn.Residual(nn.Conv2d(2, 2, 3, padding=1, dtype="float64", seed=rng)),
        nn.ReLU(),
        nn.ConvTranspose2d(2, 1, 2, dtype="float64", seed=rng),
    )
    x = rng.standard_normal((2, 2, 5, 5))
    grad = rng.standard_normal(network(x).shape)
    network.backward(grad)
    whole = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    network(x)
    network.backward_parameters(grad)
    for parameter, gradient in zip(network.parameters(), whole, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)
        parameter.add_grad(gradient)  # gradients add up
        np.testing.assert_array_equal(parameter.grad, 2 * gradient)


@FEW
@given(
    st.sampled_from([(3, 4), (2, 3, 2), (1, 2, 2, 3)]),
    st.sampled_from(["numbers", "probabilities"]),
    st.sampled_from(["mean", "sum"]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    seeds,
)
def test_cross_entropy(shape, kind, reduction, smoothing, weighted, seed):
    generator = np.random.default_rng(seed)
    classes = shape[1]
    weight = generator.uniform(0.5, 2, classes) if weighted else None
    loss = nn.CrossEntropyLoss(weight, 0, reduction, smoothing)
    prediction = generator.standard_normal(shape)
    if kind == "numbers":
        target = generator.integers(0, classes, (shape[0], *shape[2:]))
        target.flat[0] = 1  # something must count
    else:
        target = generator.dirichlet(np.ones(classes), (shape[0], *shape[2:]))
        target = np.moveaxis(target, -1, 1)
    direction = generator.standard_normal(shape)
    slope = along(lambda value: loss(value, target), prediction, direction, 1e-6)
    loss(prediction, target)
    assert (loss.backward() * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_squared_error(reduction):
    generator = np.random.default_rng(0)
    loss = nn.MSELoss(reduction)
    prediction, target, direction = generator.standard_normal((3, 4, 5))
    slope = along(lambda value: loss(value, target), prediction, direction, 1e-5)
    loss(prediction, target)
    assert (loss.backward() * direction).sum() == pytest.approx(slope, rel=1e-7)


def test_a_wrong_gradient_is_seen():
    """The check itself can fail."""

    class Wrong(nn.ReLU):
        def pull_back(self, grad, needed):
            return super().pull_back(grad, needed) * 1.001

    with pytest.raises(AssertionError):
        check_gradients(Wrong(), distinct((2, 3, 4, 4), 0) + 0.01)
