"""`starconv train`: a convolutional network learns digits, clothes, edges, shapes or the user's own pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..data.files import MissingPackageError
from ..errors import ArgumentValueError, choices
from .console import help_text, output_console, shown

if TYPE_CHECKING:
    from ..data.digits import Split
    from ..nn import History

__all__ = ["learning_data", "register"]

_EXAMPLES = """[bold]Examples[/bold]

starconv train digits

starconv train digits --network lenet --epochs 12 -o lenet-digits

starconv train mnist --fetch

starconv train fashion --files ~/data/fashion --epochs 4

starconv train shapes

starconv train flowers/ --network resnet20 --epochs 30 --resume
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("train", help=help_text(train), epilog=_EXAMPLES)(train)


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="digits, edges, shapes, mnist, fashion, or a folder with a folder of pictures per class.",
        ),
    ],
    network: Annotated[str, typer.Option("--network", "-n", help="compact, lenet or resnet20.")] = "compact",
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            "-e",
            min=1,
            help="How often every picture is learned from; 10, 12 or 8.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures per step; 32, 32 or 64.", show_default=False)
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Learning rate at first, which falls along a cosine; 0.05, 0.03 or 0.05.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides initial weights and the order of pictures.")] = 0,
    files: Annotated[
        Path | None, typer.Option("--files", metavar="DIR", help="With mnist and fashion: where their four files are.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="With mnist and fashion: get what is not there from the network.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training was.")] = False,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the results go.")] = Path("trained"),
) -> None:
    """Train a network and test it on pictures that it has not seen.

    Of the digits every fifth is for testing, of the pictures of every class in a folder too; the other sets have their
    own test pictures. edges and shapes are drawn anew every time, the same ones. mnist and fashion (Fashion-MNIST) are
    read from --files, or else from the user's cache, where --fetch puts them (11 and 30 MB).

    SGD with momentum 0.9 (Nesterov) and weight decay 0.0005. Epochs, pictures per step and learning rate are by default
    what suits the network: compact, lenet or resnet20, in this order.

    DIR gets weights.npz, network.txt, history.csv (numbers per epoch), confusion.csv (rows: what it is, columns: what
    it was taken for), both as figures (history.png, confusion.png), and checkpoint.npz, from which --resume goes on
    after an interruption to the very same weights.
    """
    from .. import nn
    from ..nn.networks import NETWORKS, RECIPES

    if network not in NETWORKS:
        raise ArgumentValueError("network", network, choices(NETWORKS))
    recipe = RECIPES[network]
    epochs, batch_size = epochs or recipe.epochs, batch_size or recipe.batch_size
    split, classes = learning_data(data, files, fetch)
    channels, height, width = split.train.images.shape[1:]
    layers = NETWORKS[network](channels, (height, width), len(classes), seed)
    out.mkdir(parents=True, exist_ok=True)
    summary = layers.summary((channels, height, width))
    (out / "network.txt").write_text(f"{summary}\n", encoding="utf-8")
    optimizer = recipe.optimizer(layers, recipe.lr if lr is None else lr)
    history = nn.fit(
        layers,
        split.train,
        split.test,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        schedule=nn.CosineAnnealingLR(optimizer, epochs),
        seed=seed,
        checkpoint=out / "checkpoint.npz",
        resume=resume,
    )
    layers.save(out / "weights.npz")
    wrong = _write_results(out, history, layers, split, classes)
    total = len(split.test.labels)
    console = output_console()
    console.print(
        f"{network}, {summary.parameters} parameters, {len(split.train.labels)} pictures, {epochs} epochs, "
        f"{sum(history.column('seconds')):.1f} s of training"
    )
    console.print(f"{100 * (total - wrong) / total:.2f} % of {total} test pictures right, {wrong} wrong")
    console.print(f"weights, history and confusion matrix are in {shown(out)}", markup=False)


def learning_data(data: str, files: Path | None = None, fetch: bool = False) -> "tuple[Split, list[str]]":
    """What to learn from, and the names of the classes."""
    if data in ("mnist", "fashion"):
        from ..data.fetch import FASHION_CLASSES, fashion_mnist, mnist

        read, classes = (mnist, map(str, range(10))) if data == "mnist" else (fashion_mnist, FASHION_CLASSES)
        return read(None if files is None else files.expanduser(), fetch=fetch), list(classes)
    for name, value in (("files", files and str(files)), ("fetch", fetch)):
        if value:
            raise ArgumentValueError(name, value, "nothing, except with mnist and fashion")
    if data == "digits":
        from ..data.digits import digits

        return digits(), [str(digit) for digit in range(10)]
    if data in ("edges", "shapes"):
        from ..data import synthetic_sets

        if data == "edges":
            return synthetic_sets.edges(), list(synthetic_sets.edge_classes())
        return synthetic_sets.shapes(), list(synthetic_sets.SHAPES)
    from ..nn.folders import class_folders

    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise ArgumentValueError(
            "data", data, "digits, edges, shapes, mnist, fashion, or a folder with a folder of pictures per class"
        )
    return class_folders(folder)


def _write_results(out: Path, history: "History", layers: object, split: "Split", classes: list[str]) -> int:
    """The history and the confusion matrix; how many test pictures were taken for something else."""
    import csv

    import numpy as np

    from .. import nn

    assert isinstance(layers, nn.Module)
    (out / "history.csv").write_text(history.csv(), encoding="utf-8")
    taken = nn.predict(layers, split.test.images).argmax(axis=1)
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, (split.test.labels, taken), 1)
    with open(out / "confusion.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
    try:
        from ..view import confusion
        from ..view import history as history_figure

        history_figure(history).save(out / "history.png")
        confusion(matrix, classes).save(out / "confusion.png")
    except MissingPackageError as error:  # what was learned is worth more than its pictures
        output_console().print(f"no figures: {error}", markup=False)
    return int((taken != split.test.labels).sum())
