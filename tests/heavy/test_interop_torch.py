"""starconv.interop.torch beside torch.nn.functional: results, derivatives, dtypes, memory, layers, whole models."""

import copy
import gc
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import axes, seeds

import starconv as sc

torch: Any = pytest.importorskip("torch")
ours: Any = sc.interop.torch
functional = torch.nn.functional

pytestmark = [
    pytest.mark.heavy,
    # What torch says to itself when it first differentiates forwards.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]
thorough = settings(settings.get_profile("thorough"), max_examples=100)
some = settings(settings.get_profile("quick"), max_examples=25)


def drawn(data, spatial, transposed=False):
    """Shapes of input and kernels, and arguments that torch takes as well."""
    while True:
        found = [data.draw(axes(longest={1: 20, 2: 8, 3: 5}[spatial])) for _ in range(spatial)]
        options = {
            "stride": tuple(axis.stride for axis in found),
            "padding": tuple(axis.before for axis in found),
            "dilation": tuple(axis.dilation for axis in found),
        }
        sizes, kernels = tuple(axis.input + axis.extent for axis in found), tuple(axis.kernel for axis in found)
        if transposed:
            options["output_padding"] = tuple(
                data.draw(st.integers(0, max(axis.stride, axis.dilation) - 1)) for axis in found
            )
        try:
            sc.output_size(sizes, kernels, transposed=transposed, **options)
        except sc.ArgumentValueError:
            assume(False)
        break
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    options["groups"] = groups
    channels, per_group = data.draw(st.integers(1, 5)) * groups, data.draw(st.integers(1, 5))
    batch = data.draw(st.sampled_from([(), (1,), (2,), (3,)]))
    first, second = (channels, per_group) if transposed else (per_group * groups, channels // groups)
    return (*batch, channels, *sizes), (first, second, *kernels), per_group * groups, options


def numbers(shape, seed, dtype=torch.float64, grad=True):
    """Small whole numbers, so that sums are exact."""
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.integers(-4, 5, shape)).to(dtype).requires_grad_(grad)


@thorough
@given(st.data(), st.sampled_from([1, 2, 3]), st.booleans(), st.sampled_from(["float32", "float64"]), seeds)
def test_results_and_gradients_are_torchs(data, spatial, transposed, dtype, seed):
    x_shape, w_shape, channels, options = drawn(data, spatial, transposed)
    dtype = getattr(torch, dtype)
    x, w = numbers(x_shape, seed, dtype), numbers(w_shape, seed + 1, dtype)
    b = numbers((channels,), seed + 2, dtype) if data.draw(st.booleans()) else None
    if len(x_shape) == 4 and data.draw(st.booleans()) and spatial == 2:
        x = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    name = f"conv{'_transpose' if transposed else ''}{spatial}d"
    result, answer = getattr(ours, name)(x, w, b, **options), getattr(functional, name)(x, w, b, **options)
    assert torch.equal(result, answer)
    assert result.dtype == answer.dtype
    operands = [tensor for tensor in (x, w, b) if tensor is not None]
    wanted = [tensor for tensor in operands if data.draw(st.booleans())]
    if wanted:
        seen = numbers(result.shape, seed + 3, dtype, grad=False)
        found, expected = torch.autograd.grad(result, wanted, seen), torch.autograd.grad(answer, wanted, seen)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


@some
@given(st.data(), st.sampled_from([1, 2, 3]), st.booleans(), seeds)
def test_derivatives_of_first_and_second_order(data, spatial, transposed, seed):
    x_shape, w_shape, channels, options = drawn(data, spatial, transposed)
    assume(np.prod(x_shape) * np.prod(w_shape[1:]) < 2000)
    generator = np.random.default_rng(seed)
    tensors = [
        torch.from_numpy(generator.standard_normal(shape)).requires_grad_(data.draw(st.booleans()))
        for shape in (x_shape, w_shape, (channels,))
    ]
    assume(any(tensor.requires_grad for tensor in tensors))
    name = f"conv{'_transpose' if transposed else ''}{spatial}d"

    def call(*given):
        return getattr(ours, name)(*given, **options)

    assert torch.autograd.gradcheck(call, tensors, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
def test_every_border_has_derivatives(mode):
    x, w, b = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(2, 2, 5, 4), (4, 1, 3, 2), 4])

    def call(*given):
        return ours.conv2d(*given, stride=(2, 1), padding=(2, 1), groups=2, padding_mode=mode)

    assert torch.autograd.gradcheck(call, (x, w, b), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, (x, w, b))


@pytest.mark.parametrize("padding", ["same", "valid", 2])
def test_padding_by_name(padding):
    x, w = numbers((2, 3, 7, 6), 0), numbers((4, 3, 4, 3), 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")  # torch says that it copies
        answer = functional.conv2d(x, w, padding=padding, dilation=(1, 2))
    assert torch.equal(ours.conv2d(x, w, padding=padding, dilation=(1, 2)), answer)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_whole_numbers_wrap_as_torchs(dtype):
    """Modulo their own size: sums here leave 8 bits."""
    x, w = (numbers(shape, 0, getattr(torch, dtype), grad=False) * 5 for shape in [(2, 4, 6, 7), (3, 4, 3, 2)])
    result, answer = ours.conv2d(x, w, padding=1), functional.conv2d(x, w, padding=1)
    assert result.dtype == answer.dtype
    assert torch.equal(result, answer)
    wide = ours.conv_transpose2d(x[:, :3].long(), w.long())
    assert torch.equal(ours.conv_transpose2d(x[:, :3], w), wide.to(x.dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_halves_are_summed_in_float32(dtype, name):
    dtype = getattr(torch, dtype)
    x, w, b = (torch.randn(shape).to(dtype) for shape in [(2, 4, 6, 7), (4, 4, 3, 2), (4,)])
    result = getattr(ours, name)(x, w, b)
    assert result.dtype == dtype
    answer = getattr(functional, name)(x.double(), w.double(), b.double())
    bits = {torch.float16: 11, torch.bfloat16: 8}[dtype]
    assert ((result.double() - answer).abs() <= answer.abs() * 2.0**-bits + 1e-4).all()


def test_gradients_of_halves_are_halves():
    x, w = (torch.randn(s, dtype=torch.bfloat16, requires_grad=True) for s in [(1, 2, 5, 5), (3, 2, 3, 3)])
    ours.conv2d(x, w).sum().backward()
    assert (x.grad.dtype, w.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    wide = [tensor.detach().float().requires_grad_() for tensor in (x, w)]
    functional.conv2d(*wide).sum().backward()
    torch.testing.assert_close(x.grad.float(), wide[0].grad, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(w.grad.float(), wide[1].grad, rtol=1e-2, atol=1e-2)


def test_under_autocast_the_wider_type_computes():
    x, w = torch.randn(1, 2, 5, 5, dtype=torch.bfloat16), torch.randn(3, 2, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = ours.conv2d(x, w)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, functional.conv2d(x.float(), w), rtol=1e-5, atol=1e-5)
    result.sum().backward()
    assert w.grad.dtype == torch.float32


def test_memory_format_is_the_inputs():
    x, w = torch.randn(2, 4, 6, 5), torch.randn(8, 4, 3, 3)
    last = x.to(memory_format=torch.channels_last).requires_grad_()
    assert ours.conv2d(x, w).is_contiguous()
    output = ours.conv2d(last, w, stride=2, padding=1)
    assert output.is_contiguous(memory_format=torch.channels_last)
    cropped = ours.conv2d(last[:, :, 1:, 1:], w)
    assert cropped.is_contiguous(memory_format=torch.channels_last)
    output.backward(torch.randn(output.shape).to(memory_format=torch.channels_last))
    assert last.grad.is_contiguous(memory_format=torch.channels_last)
    solid = torch.randn(1, 4, 5, 5, 5).to(memory_format=torch.channels_last_3d)
    assert ours.conv3d(solid, torch.randn(2, 4, 2, 2, 2)).is_contiguous(memory_format=torch.channels_last_3d)
    line = torch.randn(2, 9, 4).transpose(1, 2)
    assert ours.conv1d(line, torch.randn(3, 4, 3)).is_contiguous()  # torch has no channels_last for lines


def test_tensors_are_read_where_they_lie():
    """Any strides: crops, steps, expanded and transposed tensors, gradients of sums, a conjugate's imaginary part."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 9, 12, 11, dtype=torch.float64, generator=generator)
    w = torch.randn(3, 6, 3, 2, dtype=torch.float64, generator=generator).transpose(2, 3).requires_grad_()
    complex_base = torch.randn(2, 6, 7, 7, dtype=torch.complex128, generator=generator)
    for x in (
        base[:, 1:7, ::2, 3:],
        base[:1, :1].expand(2, 6, 12, 11),
        base.permute(3, 1, 0, 2)[:, 3:],
        complex_base.conj().imag,
    ):
        leaf = x.detach().requires_grad_()
        result, answer = ours.conv2d(leaf, w), functional.conv2d(leaf, w)
        torch.testing.assert_close(result, answer, rtol=1e-12, atol=1e-12)
        for one, other in zip(
            torch.autograd.grad(result.sum(), [leaf, w]), torch.autograd.grad(answer.sum(), [leaf, w]), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_nothing_is_kept_that_no_derivative_needs():
    w = torch.randn(3, 2, 3, 3)
    leaf = torch.randn(1, 2, 5, 5, requires_grad=True)
    x = leaf * 1
    gone = weakref.ref(x)
    output = ours.conv2d(x, w)
    del x
    gc.collect()
    assert gone() is None  # the kernels want no gradient, so nobody needs the input
    output.sum().backward()
    assert leaf.grad is not None


def test_empty_batches():
    x, w = torch.zeros(0, 2, 5, 5, requires_grad=True), torch.ones(3, 2, 3, 3, requires_grad=True)
    output = ours.conv2d(x, w, torch.ones(3))
    assert output.shape == (0, 3, 3, 3)
    output.sum().backward()
    assert x.grad.shape == x.shape
    assert not w.grad.any()


X, W = torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3)
WRONG = [
    (sc.ArgumentTypeError, "input", (np.ones((1, 2, 5, 5)), W)),
    (sc.ArgumentTypeError, "weight", (X, [[1.0]])),
    (sc.ArgumentTypeError, "weight", (X, W.double())),
    (sc.ArgumentTypeError, "bias", (X, W, 1.0)),
    (sc.ArgumentTypeError, "bias", (X, W, torch.ones(3).double())),
    (sc.ArgumentTypeError, "input", (X.to(torch.complex64), W.to(torch.complex64))),
    (sc.ArgumentTypeError, "input", (X.bool(), W.bool())),
    (sc.ArgumentValueError, "input", (X.to_sparse(), W)),
    (sc.ArgumentValueError, "input", (X.to("meta"), W)),
    (sc.ArgumentValueError, "weight", (X, W.to("meta"))),
    (sc.ArgumentValueError, "input", (X[0, 0], W)),
    (sc.ArgumentValueError, "weight", (X, W[:, :1])),
    (sc.ArgumentValueError, "weight", (X, W[0])),
    (sc.ArgumentValueError, "bias", (X, W, torch.ones(2))),
    (sc.ArgumentValueError, "stride", (X, W, None, 0)),
    (sc.ArgumentTypeError, "stride", (X, W, None, 1.0)),
    (sc.ArgumentTypeError, "stride", (X, W, None, (True, True))),
    (sc.ArgumentValueError, "padding", (X, W, None, 1, -1)),
    (sc.ArgumentValueError, "groups", (X, W, None, 1, 0, 1, 3)),
]


@pytest.mark.parametrize(("kind", "argument", "arguments"), WRONG)
def test_wrong_calls(kind, argument, arguments):
    ours.conv2d(X, W)  # a call with True or 1.0 must not pass for one with 1, which was checked
    with pytest.raises(kind, match=rf"^{argument} = ") as caught:
        ours.conv2d(*arguments)
    assert "tensor(" not in str(caught.value)


LAYERS = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "groups": 2, "bias": False}])
def test_layers(name, options):
    layer = getattr(ours, name)(4, 6, 3, **options)
    other = getattr(torch.nn, name)(4, 6, 3, **options)
    assert isinstance(layer, type(other))
    assert repr(layer) == repr(other)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, *[6] * layer.weight[0, 0].dim())
    torch.testing.assert_close(layer(x), other(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(x[0]), other(x[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_layers_with_borders(mode):
    layer = ours.Conv2d(3, 4, 3, padding=(1, 2), padding_mode=mode)
    other = torch.nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode=mode)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 6, 7)
    torch.testing.assert_close(layer(x), other(x), rtol=1e-4, atol=1e-5)


def test_output_size_of_transposed_layers():
    layer, other = ours.ConvTranspose2d(3, 4, 3, stride=2), torch.nn.ConvTranspose2d(3, 4, 3, stride=2)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(layer(x, output_size=[12, 14]), other(x, output_size=[12, 14]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="output size"):
        layer(x, output_size=[20, 20])


class Block(torch.nn.Module):
    """Two 3x3 convolutions with a way around them.

    With SiLU, not ReLU: of 300,000 units a step one is so near zero that rounding decides whether it has a gradient,
    and then everything before it is off by a part in 500, whoever rounds.
    """

    def __init__(self, channels, kernels, stride):
        super().__init__()
        self.first = torch.nn.Conv2d(channels, kernels, 3, stride, 1, bias=False)
        self.first_norm = torch.nn.BatchNorm2d(kernels)
        self.second = torch.nn.Conv2d(kernels, kernels, 3, 1, 1, bias=False)
        self.second_norm = torch.nn.BatchNorm2d(kernels)
        self.around = torch.nn.Sequential()
        if stride != 1:
            convolution = torch.nn.Conv2d(channels, kernels, 1, stride, bias=False)
            self.around = torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(kernels))

    def forward(self, x):
        inner = functional.silu(self.first_norm(self.first(x)))
        return functional.silu(self.second_norm(self.second(inner)) + self.around(x))


def resnet20():
    """K. He and others, "Deep residual learning", arXiv:1512.03385, section 4.2, with projections."""
    layers = [torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.SiLU()]
    channels = 16
    for kernels, stride in ((16, 1), (32, 2), (64, 2)):
        for step in (stride, 1, 1):
            layers.append(Block(channels, kernels, step))
            channels = kernels
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 10))


def test_ten_steps_of_a_resnet_follow_torch_within_float32_rounding():
    """Training amplifies rounding. How much, torch says itself: with channels first and last it rounds differently."""
    torch.manual_seed(0)
    exact = resnet20()
    single, last = copy.deepcopy(exact), copy.deepcopy(exact).to(memory_format=torch.channels_last)
    models = {"exact": exact, "torch": single, "torch, last": last}
    models |= {"ours": copy.deepcopy(single), "ours, last": copy.deepcopy(last)}
    exact.double()
    optimizers = {name: torch.optim.SGD(model.parameters(), 0.002, momentum=0.9) for name, model in models.items()}
    for name in ("ours", "ours, last"):  # after the optimizers were made: the parameters are the same objects
        report = ours.accelerate(models[name])
        assert len(report.swapped) == 21
        assert not report.kept
    errors = dict.fromkeys(models, 0.0)
    for _ in range(10):
        x, y = torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))
        losses = {}
        for name, model in models.items():
            memory_format = torch.channels_last if "last" in name else torch.contiguous_format
            optimizers[name].zero_grad()
            given = x.to(next(model.parameters()).dtype).to(memory_format=memory_format)
            loss = functional.cross_entropy(model(given), y)
            loss.backward()
            optimizers[name].step()
            losses[name] = loss.item()
            errors[name] = max(errors[name], abs(losses[name] - losses["exact"]))
        scale = 1e-5 + max(errors["torch"], errors["torch, last"])
        assert max(errors["ours"], errors["ours, last"]) < 5 * scale
    for name, value in exact.state_dict().items():
        off = {which: (model.state_dict()[name].double() - value).abs().max() for which, model in models.items()}
        scale = 1e-5 + max(off["torch"], off["torch, last"])
        assert max(off["ours"], off["ours, last"]) < 5 * scale, name


def test_accelerate_changes_nothing_but_the_class():
    shared = torch.nn.Conv2d(4, 4, 3, padding=1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        shared,
        torch.nn.Sequential(shared, torch.nn.ConvTranspose2d(4, 2, 2, stride=2)),
        torch.nn.Linear(1, 1),
    ).eval()
    calls = []
    shared.register_forward_hook(lambda module, inputs, output: calls.append(module))
    parameters, state, x = list(model.parameters()), copy.deepcopy(model.state_dict()), torch.randn(1, 3, 9, 9)
    text, answer = repr(model), model[:3](x)
    report = ours.accelerate(model)
    assert [name for name, _ in report.swapped] == ["0", "1", "2.1"]
    assert repr(report).startswith("3 layers computed by starconv\n  0: Conv2d(3, 4")
    assert not ours.accelerate(model).swapped  # a second time there is nothing to do
    assert model[1] is shared
    assert model[2][0] is shared
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert repr(model) == text
    assert not model[0].training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    calls.clear()
    copied = copy.deepcopy(model)
    torch.testing.assert_close(model[:3](x), answer, rtol=1e-5, atol=1e-6)
    assert calls == [shared, shared]
    assert type(copied[0]) is ours.Conv2d
    torch.testing.assert_close(copied[:3](x), answer, rtol=1e-5, atol=1e-6)

    back = ours.restore(model)
    assert [name for name, _ in back.swapped] == ["0", "1", "2.1"]
    assert type(model[0]) is torch.nn.Conv2d
    assert type(model[2][1]) is torch.nn.ConvTranspose2d
    assert torch.equal(model[:3](x), answer)
    assert not ours.restore(model).swapped


def test_a_layer_by_itself_is_a_model():
    layer = torch.nn.Conv1d(2, 3, 3)
    assert [name for name, _ in ours.accelerate(layer).swapped] == ["(the model)"]
    assert type(layer) is ours.Conv1d


class Special(torch.nn.Conv2d):
    """Somebody's own forward."""

    def forward(self, x):
        return super().forward(x) * 2


def test_what_accelerate_leaves_alone():
    parametrized = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(3, 3, 3))
    model = torch.nn.ModuleDict(
        {
            "special": Special(3, 3, 3),
            "parametrized": parametrized,
            "complex": torch.nn.Conv2d(3, 3, 3, dtype=torch.complex64),
            "elsewhere": torch.nn.Conv2d(3, 3, 3, device="meta"),
            "lazy": torch.nn.LazyConv2d(3, 3),
            "plain": torch.nn.Conv2d(3, 3, 3),
        }
    )
    kinds = {name: type(layer) for name, layer in model.items()}
    report = ours.accelerate(model)
    assert [name for name, _ in report.swapped] == ["plain"]
    reasons = dict(report.kept)
    assert reasons.keys() == kinds.keys() - {"plain"}
    assert all(type(model[name]) is kinds[name] for name in reasons)
    for name, word in (("special", "subclass"), ("complex", "complex64"), ("elsewhere", "meta"), ("lazy", "lazy")):
        assert word in reasons[name]
    assert "parametrized" in reasons["parametrized"]
    assert "special: left alone, " in repr(report)
    with pytest.raises(sc.ArgumentTypeError, match="model"):
        ours.accelerate([torch.nn.Conv2d(1, 1, 1)])


def test_a_weight_that_is_set_before_each_call():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather have the parametrization
        layer = torch.nn.utils.weight_norm(torch.nn.Conv2d(3, 4, 3))
    x = torch.randn(2, 3, 6, 6)
    answer = layer(x)
    assert ours.accelerate(layer).swapped
    with torch.no_grad():
        torch.testing.assert_close(layer(x), answer, rtol=1e-4, atol=1e-5)
        layer.weight_g.mul_(2)
        layer.bias.zero_()
        torch.testing.assert_close(layer(x), functional.conv2d(x, layer.weight), rtol=1e-4, atol=1e-5)
    layer(x).sum().backward()
    assert layer.weight_g.grad is not None


def test_a_parametrization_of_a_swapped_layer():
    layer = torch.nn.Conv2d(3, 4, 3)
    ours.accelerate(layer)
    torch.nn.utils.parametrizations.weight_norm(layer)
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(layer(x), functional.conv2d(x, layer.weight, layer.bias), rtol=1e-4, atol=1e-5)
    assert dict(ours.restore(layer).kept).keys() == {"(the model)"}
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")
    ours.restore(layer)
    assert type(layer) is torch.nn.Conv2d


def test_without_gradients_and_in_inference_mode():
    layer = ours.Conv2d(3, 4, 3)
    x = torch.randn(1, 3, 6, 6)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            output = layer(x)
        assert not output.requires_grad
    frozen = layer.requires_grad_(False)
    assert not frozen(x).requires_grad


def test_jobs_run_on_torchs_threads():
    """OpenMP's, so that two pools do not take the cores from each other; as many as torch may use."""
    from starconv.engine.runtime import threads
    from starconv.interop.torch import teams

    lender = teams.torchs_threads()
    if not torch.backends.openmp.is_available():
        pytest.skip("this torch has no OpenMP")
    assert isinstance(lender, threads.Lender)
    x, w = torch.randn(4, 16, 32, 32), torch.randn(16, 16, 3, 3)
    before = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(ours.conv2d(x, w, padding=1))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    np.testing.assert_array_equal(sc.conv2d(x.numpy(), w.numpy(), padding=1), results[0].numpy())
