"""Files from the Hugging Face hub, kept on disk by its own package: fetched once, then read without a network."""

from pathlib import Path

from ..data.files import MissingPackageError, optional_import
from ..errors import StarconvError

__all__ = ["DownloadError", "fetch", "on_disk"]

SECONDS = 10
"""How long the hub may take to say that it is there."""


class DownloadError(StarconvError, OSError):
    """A file that is not on disk and could not be fetched."""


def fetch(repository: str, name: str) -> Path:
    """The file `name` of a repository on the hub ("timm/resnet18.tv_in1k"); fetched if it is not on disk already.

    Where it is kept is decided by the hub's package (HF_HOME, by default ~/.cache/huggingface); with HF_HUB_OFFLINE=1
    nothing is fetched.

    Raises:
        MissingPackageError: huggingface_hub is not installed.
        DownloadError: it is not on disk, and there is no network, no such file, or no room.
    """
    hub = optional_import("huggingface_hub", "huggingface_hub", "Weights from the hub", "nets")
    found = on_disk(repository, name)
    if found is not None:
        return found
    try:
        # Asked once: fetching it would try for half a minute before it said that there is no network.
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, name), timeout=SECONDS)
        return Path(hub.hf_hub_download(repository, name))
    except Exception as error:  # of the package for HTTP that it uses, which changes with its version
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DownloadError(
            f"{name} of https://huggingface.co/{repository} is not on this machine, and it could not be fetched "
            f"({reason}). Where there is a network, fetch it and give its path as weights."
        ) from error


def on_disk(repository: str, name: str) -> Path | None:
    """The file as it was fetched before, or None; the network is not asked."""
    try:
        hub = optional_import("huggingface_hub", "huggingface_hub", "Weights from the hub", "nets")
        return Path(hub.hf_hub_download(repository, name, local_files_only=True))
    except (MissingPackageError, OSError, ValueError):  # its own errors are subclasses of the last two
        return None
