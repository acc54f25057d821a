"""What is fetched has the right bytes or is not kept; what is kept is whole."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from sfmts.datasets import _cache
from sfmts.datasets._cache import RemoteFile, fetch_file, load_arrays, require, save_arrays

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers every request by `answer(handler)` and counts them."""

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.answer, self.requests = answer, 0
        self.url = f"http://127.0.0.1:{self.server_port}/data.bin"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests += 1
            self.server.answer(self)

        def log_message(self, *args):
            pass


@contextmanager
def serving(answer):
    server = Server(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler, content=CONTENT, promised=None, status=200):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content) if promised is None else promised))
    handler.end_headers()
    handler.wfile.write(content)


def half(handler):
    send(handler, CONTENT[:1000], promised=len(CONTENT))


def half_without_length(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT[:1000])


BAD_ANSWERS = {
    "wrong bytes": lambda handler: send(handler, b"<html>Please log in</html>"),
    "half": half,
    "half without length": half_without_length,
    "no such file": lambda handler: send(handler, b"", status=404),
    "hangs up": lambda handler: None,
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def remote(url):
    return RemoteFile("data.bin", url, SHA256)


def fetch(url, home, **options):
    return fetch_file(remote(url), home, **{"folder": "box", "n_retries": 0} | options)


def files_under(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestFetch:
    def test_download_once(self, tmp_path):
        with serving(send) as server:
            for _ in range(2):
                path = fetch(server.url, tmp_path)
                assert path == tmp_path / "box" / "data.bin"
                assert path.read_bytes() == CONTENT
            assert server.requests == 1
        assert files_under(tmp_path) == ["box/data.bin"]
        assert os.stat(path).st_mode & 0o444 == 0o444  # a cache that users share

    def test_home_is_made(self, tmp_path):
        with serving(send) as server:
            assert fetch(server.url, tmp_path / "new" / "home").read_bytes() == CONTENT

    def test_default_home_is_scikit_learns(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
        with serving(send) as server:
            assert fetch(server.url, None) == tmp_path / "box" / "data.bin"

    def test_own_copy_needs_no_network(self, tmp_path):
        (tmp_path / "data.bin").write_bytes(CONTENT)
        with serving(send) as server:
            assert fetch(server.url, tmp_path) == tmp_path / "data.bin"
            assert server.requests == 0
        assert files_under(tmp_path) == ["data.bin"]

    def test_own_copy_with_other_bytes_is_left_alone(self, tmp_path):
        (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
        with (
            serving(send) as server,
            pytest.raises(OSError, match=rf"data.bin has the sha256 .*but {SHA256} was expected.*Remove it"),
        ):
            fetch(server.url, tmp_path)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT[:-1]

    def test_damaged_cache_is_mended(self, tmp_path):
        (tmp_path / "box").mkdir()
        (tmp_path / "box" / "data.bin").write_bytes(CONTENT[:1000])
        with serving(send) as server:
            assert fetch(server.url, tmp_path).read_bytes() == CONTENT
        assert files_under(tmp_path) == ["box/data.bin"]

    def test_negative_retries(self, tmp_path):
        with serving(send) as server:
            with pytest.raises(ValueError, match="n_retries must be at least 0, but is -1"):
                fetch(server.url, tmp_path, n_retries=-1)
            assert server.requests == 0

    @pytest.mark.parametrize("damaged", [False, True])
    def test_download_if_missing(self, tmp_path, damaged):
        if damaged:
            (tmp_path / "box").mkdir()
            (tmp_path / "box" / "data.bin").write_bytes(b"half")
        before = files_under(tmp_path)
        with serving(send) as server:
            state = "is damaged" if damaged else "is missing"
            with pytest.raises(OSError, match=rf"data.bin {state}, and download_if_missing is False.*pass data_home"):
                fetch(server.url, tmp_path, download_if_missing=False)
            assert server.requests == 0
        assert files_under(tmp_path) == before

    @pytest.mark.parametrize("name", BAD_ANSWERS)
    @pytest.mark.parametrize("before", [None, b"damaged before"])
    def test_bad_answer_leaves_nothing(self, tmp_path, name, before):
        path = tmp_path / "box" / "data.bin"
        if before is not None:
            path.parent.mkdir()
            path.write_bytes(before)
        with serving(BAD_ANSWERS[name]) as server:
            with pytest.raises(OSError, match="Nothing was kept") as caught:
                fetch(server.url, tmp_path)
            message = str(caught.value)
            assert server.url in message
            assert SHA256 in message
            assert "pass data_home=" in message
            assert server.requests == 1
        assert files_under(tmp_path) == ([] if before is None else ["box/data.bin"])
        with serving(send) as server:  # and the next try starts afresh
            assert fetch(server.url, tmp_path).read_bytes() == CONTENT

    def test_refused_connection(self, tmp_path):
        with serving(send) as server:
            url = server.url
        with pytest.raises(OSError, match=r"could not be downloaded.*Try again later or with a network"):
            fetch(url, tmp_path)
        assert files_under(tmp_path) == []

    def test_wrong_bytes_are_told_from_a_missing_network(self, tmp_path):
        with serving(BAD_ANSWERS["wrong bytes"]) as server:
            found = hashlib.sha256(b"<html>Please log in</html>").hexdigest()
            with pytest.raises(OSError, match=rf"is not data.bin.*{found}.*proxy or a login page"):
                fetch(server.url, tmp_path)

    def test_retries(self, tmp_path):
        def fail_first(handler):
            (half if handler.server.requests == 1 else send)(handler)

        with serving(fail_first) as server:
            assert fetch(server.url, tmp_path, n_retries=1).read_bytes() == CONTENT
            assert server.requests == 2

    def test_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "box").write_text("a file where the folder should be")
        with serving(send) as server, pytest.raises(OSError, match=r"not be downloaded.*to .*box.*pass data_home"):
            fetch(server.url, tmp_path)

    @pytest.mark.parametrize("verbose", [0, 1])
    def test_progress(self, tmp_path, verbose, capsys):
        with serving(send) as server:
            fetch(server.url, tmp_path, verbose=verbose)
        shown = capsys.readouterr().err
        assert ("100%" in shown) == bool(verbose)
        assert "256k/256k" in shown or not verbose

    def test_processes_at_once(self, tmp_path):
        both = threading.Barrier(2, timeout=60)

        def answer_when_both_ask(handler):
            both.wait()
            send(handler)

        code = (
            "import sys; from pathlib import Path\n"
            "from sfmts.datasets._cache import RemoteFile, fetch_file\n"
            "print('ready', flush=True); sys.stdin.readline()\n"
            "path = fetch_file(RemoteFile('data.bin', *sys.argv[1:3]), sys.argv[3], folder='box', n_retries=0)\n"
            "print(len(path.read_bytes()))"
        )
        with serving(answer_when_both_ask) as server:
            command = [sys.executable, "-c", code, server.url, SHA256, str(tmp_path)]
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            other = subprocess.Popen(command, text=True, **pipes)
            assert other.stdout.readline() == "ready\n"  # imports take longer than a download may wait
            other.stdin.write("go\n")
            other.stdin.flush()
            assert fetch(server.url, tmp_path).read_bytes() == CONTENT
            out, err = other.communicate(timeout=120)
            assert other.returncode == 0, err
            assert out.strip() == str(len(CONTENT))
            assert server.requests == 2
        assert files_under(tmp_path) == ["box/data.bin"]


def test_missing_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"'pooch'.*pip install '\.\[data\]'"):
        fetch("http://127.0.0.1:9/", tmp_path)
    (tmp_path / "data.bin").write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:9/", tmp_path).read_bytes() == CONTENT  # a copy of one's own needs none
    assert require("json").loads("1") == 1


class TestArrays:
    ARRAYS = {"a": np.arange(5), "b": np.linspace(0, 1, 7, dtype=np.float32).reshape(7, 1)}  # noqa: RUF012

    def test_round_trip(self, tmp_path):
        path = tmp_path / "new" / "arrays.npz"
        for _ in range(2):  # over an older file, too
            save_arrays(path, self.ARRAYS)
        loaded = load_arrays(path)
        assert loaded.keys() == self.ARRAYS.keys()
        for name, array in self.ARRAYS.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype == array.dtype
        assert files_under(tmp_path) == ["new/arrays.npz"]

    @pytest.mark.parametrize("length", [None, 0, 10, 300, -1])
    def test_missing_or_damaged(self, tmp_path, length):
        path = tmp_path / "arrays.npz"
        if length is not None:
            save_arrays(path, self.ARRAYS)
            path.write_bytes(path.read_bytes()[:length])
        assert load_arrays(path) is None

    def test_flipped_bit(self, tmp_path):
        path = tmp_path / "arrays.npz"
        save_arrays(path, self.ARRAYS)
        content = bytearray(path.read_bytes())
        content[content.index(np.arange(5).tobytes()) + 8] ^= 1
        path.write_bytes(content)
        assert load_arrays(path) is None

    def test_any_flipped_bit(self, tmp_path):
        path = tmp_path / "arrays.npz"
        save_arrays(path, self.ARRAYS)
        content = path.read_bytes()
        for place in range(len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
            load_arrays(path)  # None, or what a bit of the archive's own does not matter to

    def test_never_unpickles(self, tmp_path):
        path = tmp_path / "arrays.npz"
        np.savez(path, a=np.array([{"an": "object"}], dtype=object))
        assert load_arrays(path) is None

    def test_failed_write_leaves_the_older_file(self, tmp_path, monkeypatch):
        path = tmp_path / "arrays.npz"
        save_arrays(path, self.ARRAYS)
        before = path.read_bytes()

        def fill_the_disk(file, **arrays):
            file.write(b"PK")
            raise OSError("No space left on device")

        monkeypatch.setattr(_cache.np, "savez", fill_the_disk)
        with pytest.raises(OSError, match="No space"):
            save_arrays(path, {"a": np.arange(3)})
        assert path.read_bytes() == before
        assert files_under(tmp_path) == ["arrays.npz"]
