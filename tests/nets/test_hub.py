"""Weights from the hub: out of its folder on disk, and what is said where there is neither file nor network."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from starconv.data.files import MissingPackageError
from starconv.nets import hub, resnet
from starconv.nn.storage import save_state

REPOSITORY = "timm/resnet18.tv_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of the hub's files, and no hub: a port of this machine on which nobody listens."""
    constants = importlib.import_module("huggingface_hub.constants")
    download = importlib.import_module("huggingface_hub.file_download")
    for module in (constants, download):
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


def test_a_file_that_is_on_disk_needs_no_network(folder):
    network = resnet.resnet18(seed=3)
    repository = folder / "models--timm--resnet18.tv_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_state(network.graph.constants, snapshot / "model.safetensors")
    found = resnet.resnet18("tv_in1k")
    for name, array in network.graph.constants.items():
        assert np.array_equal(found.graph.constants[name], array)


def test_without_file_and_network(folder):
    with pytest.raises(hub.DownloadError) as caught:
        resnet.resnet18("tv_in1k")
    assert "model.safetensors of https://huggingface.co/timm/resnet18.tv_in1k is not on this machine" in str(
        caught.value
    )
    assert "give its path as weights" in str(caught.value)
    assert isinstance(caught.value, OSError)


def test_without_the_package(monkeypatch):
    def nothing(*_):
        raise MissingPackageError("Weights from the hub needs huggingface_hub")

    monkeypatch.setattr(hub, "optional_import", nothing)
    with pytest.raises(MissingPackageError, match="huggingface_hub"):
        resnet.resnet18("tv_in1k")


class Hub(ThreadingHTTPServer):
    """A hub on a port of this machine, with one file of one repository; it keeps what it was asked for."""

    def __init__(self, content, address, stored):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.address, self.stored, self.asked = content, address, stored, []
        self.endpoint = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does: digest and commit in the headers, large files elsewhere, a code for what is missing."""

    def answer(self):
        hub = self.server
        hub.asked.append((self.command, self.path))
        digest = f'"{hashlib.sha256(hub.content).hexdigest()}"'
        if self.path == hub.address and hub.stored != hub.address:
            headers = {"Location": hub.endpoint + hub.stored, "X-Linked-ETag": digest}
            self.reply(302, b"Found", headers | {"X-Linked-Size": str(len(hub.content)), "X-Repo-Commit": COMMIT})
        elif self.path == hub.stored:
            self.reply(200, hub.content, {"ETag": digest, "X-Repo-Commit": COMMIT})
        else:
            self.reply(404, b"Entry not found", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})

    def reply(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_GET = do_HEAD = answer  # the names that http.server looks for

    def log_message(self, *_):
        """Nothing: pytest shows what was asked where it matters."""


@pytest.fixture(params=["in the repository", "as a large file"])
def hub_here(request, tmp_path):
    """The hub of this machine with small weights, which are those of no network."""
    address = f"/{REPOSITORY}/resolve/main/model.safetensors"
    stored = "/stored/elsewhere" if request.param == "as a large file" else address
    save_state({"conv1.weight": np.arange(12, dtype=np.float32)}, tmp_path / "there.safetensors")
    with Hub((tmp_path / "there.safetensors").read_bytes(), address, stored) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def elsewhere(program, home, endpoint):
    """What a new process prints for which the hub is at `endpoint` and the user's folder is `home`."""
    # Neither the user's files and tokens of the hub nor a proxy, which would take the request away from this machine.
    private = ("HF_", "HUGGING", "XDG_", "TRANSFORMERS_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(private)}
    kept = {name: value for name, value in kept.items() if not name.upper().endswith("_PROXY")}
    set_here = {"HOME": str(home), "HF_HOME": str(home / "hub"), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | set_here | {"HF_HUB_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


FETCHED = f"""
import json
from starconv.nets import hub, pretrained
before = hub.on_disk({REPOSITORY!r}, "model.safetensors")
weights = pretrained.found_weights("resnet18", "tv_in1k", 0)
array = weights.given["conv1.weight"]
path = hub.fetch({REPOSITORY!r}, "model.safetensors")
print(json.dumps([str(before), array.tolist(), str(path)]))
"""
MISSING = f"""
import json
from starconv.nets import hub
try:
    hub.fetch({REPOSITORY!r}, "other.safetensors")
except hub.DownloadError as error:
    print(json.dumps(str(error)))
"""


def test_a_file_is_fetched_once_and_then_read_without_the_hub(hub_here, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    before, array, path = elsewhere(FETCHED, home, hub_here.endpoint)
    assert before == "None"
    assert array == list(range(12))
    assert path == str(home / f"hub/hub/models--timm--resnet18.tv_in1k/snapshots/{COMMIT}/model.safetensors")
    with open(path, "rb") as file:
        assert file.read() == hub_here.content
    assert [asked for asked in hub_here.asked if asked[0] == "GET"] == [("GET", hub_here.stored)]
    count = len(hub_here.asked)
    hub_here.shutdown()
    hub_here.server_close()
    assert elsewhere(FETCHED, home, hub_here.endpoint) == [path, array, path]
    assert len(hub_here.asked) == count


def test_a_file_that_the_hub_has_not(hub_here, tmp_path):
    message = elsewhere(MISSING, tmp_path, hub_here.endpoint)
    assert f"other.safetensors of https://huggingface.co/{REPOSITORY} is not on this machine" in message
    assert "404" in message
    assert [method for method, _ in hub_here.asked] == ["HEAD"]
