import hashlib
import re
import resource
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dist_llm import atomic
from dist_llm.data import download as download_module
from dist_llm.data.download import REMOTES, download
from dist_llm.errors import UserError

CONTENT = bytes(range(256)) * 1200  # some chunks long, once a chunk is 64 KiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        body = {"/wrong": CONTENT[::-1], "/longer": CONTENT + b"x"}.get(self.path, CONTENT)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:100_000] if self.path == "/truncated" else body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 1 << 16)


@pytest.mark.parametrize("path", ["/good", "/moved"])
def test_a_good_file_arrives_whole(server, tmp_path, path, capfd):
    target = tmp_path / "new" / "folder" / "file.txt"
    download(server + path, target, SHA256, len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert capfd.readouterr().err == ""


def test_progress_is_shown_when_asked_for(server, tmp_path, capfd):
    download(server + "/good", tmp_path / "file.txt", SHA256, len(CONTENT), progress=True)
    assert "good: 100%" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing", r"cannot download \S+/missing \(HTTP 404 Not Found\): "),
        ("/wrong", r"\S+/wrong is not the expected file \(sha256 \w{12}\.\.\., not \w{12}\.\.\.\): "),
        ("/longer", r"\S+/longer is not the expected file "),
        (
            "/truncated",
            r"(the download of \S+/truncated broke off after 100,000 of 307,200 bytes|IncompleteRead)",
        ),
    ],
)
def test_anything_else_leaves_nothing_and_names_the_way_out(server, tmp_path, path, message):
    with pytest.raises(UserError, match=message) as error:
        download(server + path, tmp_path / "file.txt", SHA256, len(CONTENT))
    assert server in str(error.value)
    assert "--data.path FILE, or choose another --data.corpus" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_no_connection(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.txt"
        with pytest.raises(UserError, match=rf"cannot download {url} \(.*refused\): .*--data.path FILE"):
            download(url, tmp_path / "file.txt", SHA256, len(CONTENT))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_falls_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.txt"
        with pytest.raises(UserError, match=rf"cannot download {url} \(.*timed out\): "):
            download(url, tmp_path / "file.txt", SHA256, len(CONTENT))


def test_no_room_on_the_disk(server, tmp_path):
    # A limit on the size of files stands in for a full disk: the write fails midway, if with another errno.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError) as error:
            download(server + "/good", tmp_path / "file.txt", SHA256, len(CONTENT))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert re.search(rf"cannot write the download of \S+ to {tmp_path} \(.*\): .*--data.cache_dir", str(error.value))
    assert list(tmp_path.iterdir()) == []


def test_no_folder_to_write_to(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write the download .*--data.cache_dir FOLDER"):
        download(server + "/good", tmp_path / "file" / "below.txt", SHA256, len(CONTENT))


def test_an_interrupt_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(*args):
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(server + "/good", tmp_path / "file.txt", SHA256, len(CONTENT))
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_survives_a_failed_download(server, tmp_path):
    (tmp_path / "file.txt").write_text("older")
    with pytest.raises(UserError):
        download(server + "/wrong", tmp_path / "file.txt", SHA256, len(CONTENT))
    assert (tmp_path / "file.txt").read_text() == "older"


def test_the_known_files_are_described_completely():
    for remote in REMOTES.values():
        assert remote.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", remote.sha256)
        assert remote.n_bytes > 1_000_000
        assert remote.licence
        assert remote.sha256 in remote.about
        assert "licence: " in remote.about
