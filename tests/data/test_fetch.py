"""Data sets from the network, which here is a server on this machine: whole and right, or not there at all."""

import gzip
import hashlib
import struct
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

import starconv as sc
from starconv.data import fetch as module
from starconv.data.fetch import SETS, FetchError, data_folder, fashion_mnist, fetch, mnist


def files():
    made = {}
    for part, count in (("train", 5), ("t10k", 3)):
        pictures = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *pictures.shape)
        made[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(header + pictures.tobytes(), mtime=0)
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", count) + bytes(range(count))
        made[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(labels, mtime=0)
    return made


FILES = files()
TRAIN = "train-images-idx3-ubyte.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, name = self.path.strip("/").partition("/")
        self.server.asked.append(self.path)
        body = FILES.get(name, b"")
        if kind == "missing":
            self.send_error(404)
            return
        if kind == "damaged":
            body = body[:-1] + b"?"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (1000 if kind == "short" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    sums = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}
    http = HTTPServer(("127.0.0.1", 0), Handler)
    http.asked = []
    http.at = lambda kind: f"http://127.0.0.1:{http.server_port}/{kind}/"
    for name in SETS:
        monkeypatch.setitem(SETS, name, SETS[name]._replace(mirrors=(http.at("good"),), files=sums))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.mark.parametrize(("name", "read"), [("mnist", mnist), ("fashion", fashion_mnist)])
def test_fetched_once_then_offline(server, tmp_path, monkeypatch, name, read):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module.sys, "platform", "linux")
    with pytest.raises(sc.ArgumentValueError, match="fetch=True"):
        read()
    assert not server.asked
    train, test = read(fetch=True)
    assert data_folder(name) == tmp_path / "starconv" / "data" / name
    assert (len(train.labels), test.labels.tolist()) == (5, [0, 1, 2])
    assert sorted(server.asked) == sorted(f"/good/{file}" for file in FILES)
    assert sorted(path.name for path in data_folder(name).iterdir()) == sorted(FILES)
    server.asked.clear()
    again = read(fetch=True)
    np.testing.assert_array_equal(again.train.images, train.images)
    read()
    assert not server.asked


def test_the_next_address_is_asked(server, tmp_path, capsys):
    fetch(
        "mnist", tmp_path, mirrors=[server.at("missing"), server.at("damaged"), server.at("short"), server.at("good")]
    )
    assert [path.split("/")[1] for path in server.asked[:4]] == ["missing", "damaged", "short", "good"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == FILES
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    ("kind", "message"),
    [("missing", "404"), ("damaged", "MD5 sum is .* damaged"), ("short", r"connection ended|IncompleteRead")],
)
def test_nothing_is_left_of_what_is_not_right(server, tmp_path, kind, message):
    with pytest.raises(FetchError, match=f"{TRAIN} could not be fetched. http://127.*{message}"):
        fetch("mnist", tmp_path, mirrors=[server.at(kind)])
    assert not list(tmp_path.iterdir())
    assert len(server.asked) == 1  # the others are not asked for


def test_no_server(tmp_path):
    with pytest.raises(FetchError, match="refused"):
        fetch("mnist", tmp_path, mirrors=["http://127.0.0.1:9/"])
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_replaced_and_stays_if_it_cannot_be(server, tmp_path):
    (tmp_path / TRAIN).write_bytes(b"half of it")
    with pytest.raises(FetchError):
        fetch("mnist", tmp_path, mirrors=[server.at("damaged")])
    assert (tmp_path / TRAIN).read_bytes() == b"half of it"
    fetch("mnist", tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == FILES[TRAIN]


def test_too_much_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 100)
    with pytest.raises(FetchError, match="more than 100 bytes"):
        fetch("mnist", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bar_on_standard_error(server, tmp_path, capsys):
    fetch("mnist", tmp_path, progress=True)
    assert capsys.readouterr().out == ""


def test_wrong_calls(tmp_path):
    with pytest.raises(sc.ArgumentValueError, match="name = 'cifar'"):
        fetch("cifar", tmp_path)
    for mirrors in ([], ["file:///etc/"]):
        with pytest.raises(sc.ArgumentValueError, match="mirrors"):
            fetch("mnist", tmp_path, mirrors=mirrors)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"exists|directory"):
        fetch("mnist", tmp_path / "file")


def test_published_sums():
    """Eight different files, each known by a sum of 128 bits, and more than one place for both sets."""
    sums = [checksum for known in SETS.values() for checksum in known.files.values()]
    assert len(set(sums)) == 8
    assert all(len(bytes.fromhex(checksum)) == 16 for checksum in sums)
    assert all(len(known.mirrors) > 1 for known in SETS.values())
