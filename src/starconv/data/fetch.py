"""MNIST and Fashion-MNIST from the network: asked for once, checked against their published checksums, then kept.

Addresses and MD5 sums are those of torchvision (torchvision/datasets/mnist.py) and of Fashion-MNIST's own README
(github.com/zalandoresearch/fashion-mnist), which agree on the latter; other addresses are mirrors of the same files.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..errors import ArgumentValueError, StarconvError, choices
from .digits import Split
from .files import replaced_when_complete
from .idx import mnist as _read

__all__ = ["FASHION_CLASSES", "SETS", "FetchError", "data_folder", "fashion_mnist", "fetch", "mnist"]


class FetchError(StarconvError, OSError):
    """A file that none of its addresses gave, or gave whole."""


class DataSet(NamedTuple):
    """Where the files of a data set are.

    Attributes:
        mirrors: addresses of folders, tried in this order.
        files: MD5 sums by file name.
    """

    mirrors: tuple[str, ...]
    files: dict[str, str]


_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
SETS: dict[str, DataSet] = {
    "mnist": DataSet(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        dict(
            zip(
                _NAMES,
                (
                    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                    "d53e105ee54ea40749a09fcbcd1e9432",
                    "9fb629c4189551a2d022fa330f9573f3",
                    "ec29112dd5afa0611ce80d1b7f02629c",
                ),
                strict=True,
            )
        ),
    ),
    "fashion": DataSet(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        dict(
            zip(
                _NAMES,
                (
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    "25c81989df183df01b3e8a0aad5dffbe",
                    "bef4ecab320f06d8554ea6380940ec79",
                    "bb300cfdad3c16e7a12a480ee83cd310",
                ),
                strict=True,
            )
        ),
    ),
}
"""By the names that the command line has for them."""

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""What Fashion-MNIST's labels 0 to 9 mean."""

SECONDS = 20.0
"""How long a server may be silent."""
LARGEST = 100_000_000
"""Bytes beyond which a file is not what was asked for; the largest of both sets has 26.4 million."""
_CHUNK = 2**18


def mnist(folder: str | os.PathLike[str] | None = None, *, fetch: bool = False) -> Split:
    """MNIST: 60 000 handwritten digits of 28 x 28 pixels to learn from, 10 000 to be asked about.

    Args:
        folder: with its four files, gzipped or not; default :func:`data_folder`.
        fetch: get what is not there from the network first. Without it, the network is never asked.

    Returns:
        Pictures (N, 1, 28, 28) float32 from 0 (paper) to 1 (ink), and labels (N,) int64.

    Raises:
        FetchError: not there, and not to be had. FileContentError: damaged. OSError: unreadable or missing.
    """
    return _set("mnist", folder, fetch)


def fashion_mnist(folder: str | os.PathLike[str] | None = None, *, fetch: bool = False) -> Split:
    """Fashion-MNIST: clothes in ten classes (:data:`FASHION_CLASSES`), in MNIST's form; otherwise as :func:`mnist`.

    Source: H. Xiao, K. Rasul and R. Vollgraf, arXiv:1708.07747.
    """
    return _set("fashion", folder, fetch)


def _set(name: str, folder: str | os.PathLike[str] | None, wanted: bool) -> Split:
    place = data_folder(name) if folder is None else Path(folder)
    if wanted:
        fetch(name, place)
    elif folder is None and not place.is_dir():
        raise ArgumentValueError(
            "folder", folder, f"a folder with the set's four IDX files, or fetch=True to get them into {place}"
        )
    return _read(place)


def data_folder(name: str) -> Path:
    """Where a data set is kept unless a folder is named: in the user's cache, ``starconv/data/NAME``.

    XDG_CACHE_HOME moves the cache, as for other programs.
    """
    if os.name == "nt" and "LOCALAPPDATA" in os.environ:
        cache = Path(os.environ["LOCALAPPDATA"])
    elif sys.platform == "darwin":
        cache = Path("~/Library/Caches").expanduser()
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "starconv" / "data" / name


def fetch(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    mirrors: Sequence[str] | None = None,
    progress: bool | None = None,
) -> Path:
    """The folder with the four files of a data set; what is missing or damaged in it is fetched.

    Files whose checksum is right are left alone: once they are there, no network is needed. A new file takes its name
    only when it is complete and its checksum is right.

    Args:
        name: "mnist" or "fashion".
        folder: made if it is not there; default :func:`data_folder`.
        mirrors: addresses (http or https) of folders to try in turn, instead of the known ones.
        progress: whether to show a bar on standard error; None for where that is a terminal.

    Raises:
        FetchError: what every address answered. OSError: the folder cannot be written.
    """
    if name not in SETS:
        raise ArgumentValueError("name", name, choices(SETS))
    known = SETS[name]
    addresses = known.mirrors if mirrors is None else tuple(mirrors)
    if not addresses or not all(address.startswith(("http://", "https://")) for address in addresses):
        raise ArgumentValueError("mirrors", mirrors, "at least one address that begins with http:// or https://")
    place = data_folder(name) if folder is None else Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for file, checksum in known.files.items():
        if not _is_whole(place / file, checksum):
            _fetch(file, checksum, addresses, place / file, progress)
    return place


def _is_whole(path: Path, checksum: str) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return _md5(file) == checksum


def _md5(file: BinaryIO) -> str:
    """Of what is in the file. It tells damage; nobody's trust hangs on it."""
    total = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(_CHUNK):
        total.update(chunk)
    return total.hexdigest()


def _fetch(name: str, checksum: str, addresses: Sequence[str], target: Path, progress: bool | None) -> None:
    """Write `target` with what the first address gives whose checksum is right."""
    answers = []
    for address in addresses:
        url = f"{address.rstrip('/')}/{name}"
        try:
            with replaced_when_complete(target) as file:
                _download(url, file, progress)
                file.seek(0)
                if (found := _md5(file)) != checksum:
                    raise FetchError(f"its MD5 sum is {found}, not {checksum}: damaged, or not the published file")
                return
        except (FetchError, HTTPException, TimeoutError, ConnectionError) as error:
            answers.append(f"{url}: {error or type(error).__name__}")
        except OSError as error:
            # Of the network, urllib makes URLErrors; all else is of the disk, where another address would not help.
            from urllib.error import HTTPError, URLError

            if not isinstance(error, URLError):
                raise
            answers.append(f"{url}: {error if isinstance(error, HTTPError) else error.reason}")
    raise FetchError(f"{name} could not be fetched. " + "; ".join(answers))


def _download(url: str, file: BinaryIO, progress: bool | None) -> None:
    from urllib.request import Request, urlopen

    # Some servers refuse urllib's own name.
    with urlopen(Request(url, headers={"User-Agent": "starconv"}), timeout=SECONDS) as answer:
        length = answer.headers.get("Content-Length", "")
        expected = int(length) if length.isdecimal() else None
        received = 0
        with _bar(url.rpartition("/")[2], expected, progress) as show:
            while chunk := answer.read(_CHUNK):
                received += len(chunk)
                if received > LARGEST:
                    raise FetchError(f"more than {LARGEST} bytes")
                file.write(chunk)
                show(received)
    if expected is not None and received < expected:
        raise FetchError(f"the connection ended after {received} of {expected} bytes")


@contextlib.contextmanager
def _bar(name: str, total: int | None, progress: bool | None) -> Iterator[Any]:
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda received: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda received: bar.update(task, completed=received)
