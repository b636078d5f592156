"""datasets/download.py: every case of a download that goes right or wrong, without a network.

A small server in a thread plays the sources; its behaviour is set per test.
"""
import errno
import csv
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cv2
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from requests import HTTPError, RequestException, Response
from torchvision.datasets import ImageFolder

import download
import small_data
import transfer
from download import DownloadError, fetch

DATA = np.random.default_rng(0).bytes(600_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
MIRROR = Path(os.environ.get("DATASETS_MIRROR", "no mirror"))


class Source(http.server.BaseHTTPRequestHandler):
    """Serves server.files; the server's other attributes set how well it does it."""

    def do_GET(self):
        server, data = self.server, self.server.files.get(self.path)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        server.seen.append((self.path, start))
        if data is None or start and server.ranges and start >= len(data):
            self.send_error(404 if data is None else 416)
            return
        start = start if server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", server.length or str(len(data) - start))
        self.end_headers()
        time.sleep(server.slow)
        break_at = server.breaks.pop(0) if server.breaks else server.silent_at or len(data)
        self.wfile.write(data[start:max(start, break_at)])
        if server.silent_at:
            server.wake.wait(20)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Source) as server:
        server.files, server.seen, server.breaks = {"/set/data.bin": DATA}, [], []
        server.ranges, server.slow, server.length, server.silent_at = True, 0, None, None
        server.url, server.wake = f"http://127.0.0.1:{server.server_port}", threading.Event()
        server.handle_error = lambda *_: None    # a line that the other side has closed
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.wake.set()
        server.shutdown()


def entry(*urls, **more):
    return {"about": "a set", "size": "0.6 MB", "by_hand": "ask the author.", "urls": urls,
            "files": {"data.bin": SHA256}} | more


@pytest.fixture
def home(tmp_path, monkeypatch, server):
    """A folder of data sets with one entry, `small`, that the server holds."""
    monkeypatch.setattr(download, "HERE", tmp_path / "datasets")
    monkeypatch.setitem(download.DATASETS, "small", entry(server.url + "/set/"))
    for name in ("DATASETS_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "datasets"


def started(home, data, name="data.bin.part"):
    """A folder in which an earlier run left a file."""
    (home / "small").mkdir(parents=True)
    (home / "small" / name).write_bytes(data)


def inside(folder):
    """All files in the folder, but for the lock."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.is_file() and path.name != ".lock")


def is_ready(home):
    return ((home / "small" / "data.bin").read_bytes() == DATA
            and inside(home / "small") == [".complete", "data.bin"])


def nothing_looks_whole(home):
    return {".complete", "data.bin"}.isdisjoint(inside(home / "small"))


def error_of(name, mirror=None):
    with pytest.raises(DownloadError) as error:
        fetch(name, mirror)
    return str(error.value)


def test_fetch_loads_a_set_once_and_lists_the_names_for_an_unknown_one(home, server):
    assert fetch("small") == home / "small"
    assert is_ready(home) and server.seen == [("/set/data.bin", 0)]
    fetch("small")
    assert len(server.seen) == 1
    assert "no set 'smal'" in error_of("smal") and "mnist, " in error_of("smal")


def test_a_stamp_is_believed_where_it_fits(home, server):
    started(home, b"other data, as tests put it there", "data.bin")
    download.stamp(home / "small")
    assert json.loads((home / "small" / ".complete").read_text()) == {"data.bin": 33}
    assert fetch("small") == home / "small" and not server.seen
    for text in ("", "[]", "{}", '{"data.bin": 5}', '{"gone.bin": 5}'):
        (home / "small" / ".complete").write_text(text)
        assert not download.is_whole(home / "small")
    fetch("small")
    assert is_ready(home)


def test_a_file_put_there_by_hand_is_used_or_completed(home, server):
    started(home, DATA, "data.bin")
    fetch("small")
    assert is_ready(home) and not server.seen
    (home / "small" / "data.bin").write_bytes(DATA[:1000])
    fetch("small")
    assert is_ready(home) and server.seen == [("/set/data.bin", 1000)]


def test_a_broken_download_goes_on_from_where_it_stopped(home, server):
    started(home, DATA[:100_000])                # as an earlier run left it
    server.breaks = [200_000, 400_000]
    fetch("small")
    assert is_ready(home)
    assert [start for _, start in server.seen] == [100_000, 200_000, 400_000]


def test_a_server_without_ranges_starts_again_though_it_breaks_at_one_place(home, server):
    server.ranges, server.breaks = False, [200_000] * (transfer.TRIES - 1)
    fetch("small")
    assert is_ready(home) and len(server.seen) == transfer.TRIES


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(DATA), b"x" * (len(DATA) + 5)])
def test_a_part_of_another_file_is_thrown_away(home, server, left):
    """The file on the server has changed; or the part is as long as the file, or longer: 416."""
    started(home, left)
    fetch("small")
    assert is_ready(home) and server.seen[-1] == ("/set/data.bin", 0)


@pytest.mark.parametrize("manner, text", [
    ({"breaks": [100_000] * 50}, "broken off at 100,000 of 600,000 bytes"),
    ({"silent_at": 100}, "timed out"), ({"length": "abc"}, "invalid literal")])
def test_a_server_that_never_gets_it_right_ends_in_an_error(home, server, monkeypatch, manner,
                                                            text):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.3)
    vars(server).update(manner)
    assert text in error_of("small")
    assert nothing_looks_whole(home) and len(server.seen) <= transfer.TRIES


def test_wrong_checksum_next_source_then_an_error(home, server, monkeypatch):
    server.files["/bad/data.bin"] = b"<html>please log in</html>"
    monkeypatch.setitem(download.DATASETS, "small", entry(server.url + "/bad/",
                                                          server.url + "/set/"))
    fetch("small")
    assert is_ready(home)
    assert [path for path, _ in server.seen] == ["/bad/data.bin", "/set/data.bin"]

    del server.files["/set/data.bin"]
    (home / "small" / "data.bin").unlink()
    text = error_of("small")
    assert "bad/data.bin: wrong checksum, removed" in text
    assert "set/data.bin: HTTP Error 404" in text
    assert inside(home / "small") == [".complete"] and not download.is_whole(home / "small")


def test_no_network_says_in_short_what_where_and_how(home, monkeypatch):
    monkeypatch.setitem(download.DATASETS, "small", entry("http://127.0.0.1:9/"))
    text = error_of("small")
    for needed in ("small (0.6 MB)", "http://127.0.0.1:9/data.bin", "refused", "ask the author.",
                   str(home / "small"), "DATASETS_MIRROR"):
        assert needed in text
    assert len(text.splitlines()) == 4 and nothing_looks_whole(home)


def test_a_certificate_error_says_what_to_do(home, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED]")
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert "SSL_CERT_FILE" in error_of("small")


def test_a_notebook_shows_the_message_and_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(download.__file__).parent))
    code = (f"import download, pathlib\ndownload.HERE = pathlib.Path({str(tmp_path)!r})\n"
            "download.fetch('handwritten_strings', 'no mirror')")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    with pytest.raises(CellExecutionError):
        NotebookClient(book, kernel_name="python3").execute()
    output = book.cells[0].outputs[-1]
    assert output.ename == "DownloadError" and output.traceback == output.evalue.splitlines()
    assert output.evalue.startswith("handwritten_strings (15 MB) is not complete.")


def test_what_is_known_of_a_file(tmp_path):
    path = tmp_path / "a.gz"
    for level in (1, 9):                         # the same data, packed in another way
        path.write_bytes(gzip.compress(DATA, level))
        assert download.matches(path, "unzipped:" + SHA256) and download.matches(path, None)
        assert not download.matches(path, SHA256) and not download.matches(path, "bytes:7")
    for broken in (gzip.compress(DATA)[:-9], b"no gzip", gzip.compress(DATA[1:])):
        path.write_bytes(broken)
        assert not download.matches(path, "unzipped:" + SHA256)


def test_the_mirror_comes_first_and_a_bad_one_is_passed_over(home, server, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    (mirror / "small").mkdir(parents=True)
    monkeypatch.setenv("DATASETS_MIRROR", str(mirror))
    for data, requests in ((DATA, 0), (b"damaged", 1)):
        (mirror / "small" / "data.bin").write_bytes(data)
        fetch("small")
        assert is_ready(home) and len(server.seen) == requests
        (home / "small" / "data.bin").unlink()
    server.files.clear()
    assert "wrong checksum, removed" in error_of("small")
    assert f"No such file or directory: '{tmp_path / 'no'}" in error_of("small", tmp_path / "no")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file")
@pytest.mark.parametrize("made", ["a file", "a folder inside"])
def test_a_mirror_that_is_none_is_passed_over(home, server, tmp_path, made):
    mirror = tmp_path / "mirror"
    if made == "a file":
        mirror.write_text("no mirror", encoding="utf-8")
    else:
        (mirror / "small" / "data.bin").mkdir(parents=True)
    fetch("small", mirror)
    assert is_ready(home) and server.seen


def test_a_full_disk_is_named_and_the_part_is_kept(home, server):
    import resource
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        text = error_of("small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "small needs 0.6 MB" in text and "too large" in text and "Free some space" in text
    assert nothing_looks_whole(home)
    fetch("small")
    assert is_ready(home) and server.seen[-1][1] > 0


def test_a_read_only_folder_and_a_file_in_its_place_are_named(home, monkeypatch):
    home.mkdir()
    (home / "small").write_text("in the way")
    assert "move away what is in its place" in error_of("small")
    (home / "small").unlink()
    monkeypatch.setattr(os, "replace", mock.Mock(side_effect=OSError(errno.EROFS, "Read-only")))
    assert "but: [Errno 30] Read-only. Free some space, make the folder writ" in error_of("small")
    assert nothing_looks_whole(home)


def process(home, server, code):
    """Another Python that knows the set `small` as this one does."""
    text = (f"import download as d, signal, sys\nfrom pathlib import Path\n"
            f"d.HERE = Path({str(home)!r})\n"
            f"d.DATASETS = {{'small': {entry(server.url + '/set/')!r}}}\n")
    folder = str(Path(download.__file__).parent)
    return subprocess.Popen([sys.executable, "-c", text + code], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"PYTHONPATH": folder, "PYTHONUNBUFFERED": "1"})


@pytest.mark.skipif(os.name == "nt", reason="a child process can't be sent Ctrl-C on Windows")
def test_ctrl_c_leaves_nothing_that_looks_whole_and_the_next_run_goes_on(home, server):
    server.silent_at = 400_000
    # A shell starts background jobs deaf to Ctrl-C, and children inherit that.
    child = process(home, server, "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
                                  "sys.exit(d.main(['small']))")
    part = home / "small" / "data.bin.part"
    while not part.exists() or not part.stat().st_size:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    assert "Stopped" in child.communicate(timeout=20)[1]
    assert child.returncode == 130 and nothing_looks_whole(home)
    server.silent_at = None
    fetch("small")
    assert is_ready(home) and server.seen[-1][1] > 0


def test_two_processes_at_once_load_it_once(home, server):
    server.slow = 3
    code = """
def prepare(folder, get):
    get('data.bin').rename(folder / 'moved.bin')
d.DATASETS['small']['prepare'] = prepare
d.fetch('small'); print('ready')"""
    both = [process(home, server, code) for _ in range(2)]
    printed = sorted(each.communicate(timeout=30)[0] for each in both)
    assert printed == ["Another process is loading small: waiting for it.\nready\n", "ready\n"]
    assert inside(home / "small") == [".complete", "moved.bin"] and len(server.seen) == 1


def zip_of(files, packing=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(target := io.BytesIO(), "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def tar_of(files):
    with tarfile.open(fileobj=(target := io.BytesIO()), mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


PACKERS = pytest.mark.parametrize("pack", [zip_of, tar_of])


@pytest.fixture
def read(tmp_path):
    def read(data, pattern=".*"):
        (tmp_path / "archive").write_bytes(data)
        return dict(transfer.members(tmp_path / "archive", pattern))
    return read


@PACKERS
def test_members_reads_the_files_that_fit(pack, read):
    files = {"top/a.txt": b"a", "top/sub/b.txt": b"bb", "top/c.bin": b"c"}
    assert read(pack(files), r".*\.txt") == {"top/a.txt": b"a", "top/sub/b.txt": b"bb"}


@PACKERS
@pytest.mark.parametrize("name", ["a/../../evil.txt", "/etc/evil.txt", "C:\\evil.txt"])
def test_an_archive_with_unsafe_names_or_a_bomb_is_refused(pack, read, monkeypatch, name):
    with pytest.raises(DownloadError, match="refused, as it holds an unsafe name"):
        read(pack({name: b"x"}))
    monkeypatch.setattr(transfer, "MAX_UNPACKED", 1_000_000)
    with pytest.raises(DownloadError, match="refused, as it unpacks to over 1,000,000 bytes"):
        read(pack({"a": bytes(700_000), "b": bytes(700_000)}), "b")


def patched(place, value):
    """A zip with another value in its file's header and in its table of contents."""
    data, table = bytearray(STORED), STORED.index(b"PK\1\2")
    data[place] = data[table + place + 2] = value
    return bytes(data)


STORED = zip_of({"a": DATA[:500]}, zipfile.ZIP_STORED)


@pytest.mark.parametrize("data, text", [
    (patched(6, 1), "encrypted"), (patched(8, 77), "not supported"),
    (patched(8, 12), "OSError"),                 # packed by bzip2, it says
    (STORED.replace(DATA[:9], b"x" * 9), "CRC"), (STORED[:-30], "ReadError"),
    (b"no archive", "ReadError"), (tar_of({"a": DATA})[:-300_000], "unexpected end")])
def test_a_damaged_archive_is_an_error_of_ours(read, data, text):
    with pytest.raises(DownloadError, match=rf"damaged \(.*{text}"):
        read(data)


def test_a_new_entry_with_prepare_is_all_that_a_new_set_needs(home, server, monkeypatch):
    def prepare(folder, get):
        """From a mirror's packed file, else in another way: as a set of Kaggle's would."""
        try:
            text = gzip.decompress(get("table.gz").read_bytes())
        except DownloadError:
            text = get("data.bin", server.url + "/set/data.bin").read_bytes()
        (folder / "table").write_bytes(text)

    mirror = home.parent / "mirror"
    (mirror / "new").mkdir(parents=True)
    (mirror / "new" / "table.gz").write_bytes(gzip.compress(b"a,b"))
    monkeypatch.setitem(download.DATASETS, "new", entry(prepare=prepare))
    assert (fetch("new", mirror) / "table").read_bytes() == b"a,b" and not server.seen
    shutil.rmtree(home / "new")
    assert (fetch("new") / "table").read_bytes() == DATA and len(server.seen) == 1


def photo(seed, suffix="jpg"):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (*rng.integers(30, 60, 2), 3), np.uint8)
    return cv2.imencode(f".{suffix}", noise)[1].tobytes()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n"
NOTES = b"Exif\0\0II*\0\x08\0\0\0\x09\0\x1a\x01\x05\0\x01\0\0\0\xff"     # damaged: Pillow warns
NOTED = photo(0)[:2] + b"\xff\xe1" + (len(NOTES) + 2).to_bytes(2, "big") + NOTES + photo(0)[2:]


def test_broken_pictures_of_a_set_are_left_out_counted_and_named(home, capsys, monkeypatch,
                                                                 recwarn, tmp_path):
    pictures = tmp_path / "mirror" / "handwritten_strings"
    pictures.mkdir(parents=True)
    photos = {"a.png": photo(1, "png"), "b.jpg": photo(2)[:700], "c.png": b"", "d.jpg": NOTED,
              "e.jpg": EPS}
    for name, data in photos.items():
        (pictures / name).write_bytes(data)
    index = "\n".join(["file", *photos]).encode()
    (pictures / "index.csv").write_bytes(index)
    monkeypatch.setitem(download.DATASETS["handwritten_strings"], "files",
                        {"index.csv": hashlib.sha256(index).hexdigest()})
    ghostscript = mock.Mock()
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", ghostscript)
    folder = fetch("handwritten_strings", pictures.parent)
    assert inside(folder) == [".complete", "a.png", "d.jpg", "index.csv"]
    assert ("3 of 5 pictures broken and left out: handwritten_strings/b.jpg, handwritten_strings/"
            "c.png, handwritten_strings/e.jpg" in capsys.readouterr().out)
    assert not recwarn.list and not ghostscript.called


OFFICIAL = "kagglecatsanddogs_5340.zip"
CATS = {f"cat/{n:05}.webp": photo(n, "webp") for n in (0, 12, 12300)}
DOGS = {"dog/00007.webp": photo(7, "webp"), "dog/00008.webp": photo(8, "webp")[:-300]}
PETS = {"Readme.txt": b"x", "MSR-LA - 3467.docx": b"licence", "PetImages/Cat/Thumbs.db": b"x",
        "PetImages/Cat/0.jpg": photo(0), "PetImages/Cat/12.jpg": photo(12),
        "PetImages/Cat/666.jpg": b"", "PetImages/Dog/7.jpg": photo(7),
        "PetImages/Dog/500.jpg": photo(500), "PetImages/Dog/11702.jpg": photo(1)[:-900]}
OF_MIRROR = [".complete", "Cat/0.webp", "Cat/12.webp", "Cat/12300.webp", "Dog/7.webp"]
OF_MICROSOFT = [".complete", "Cat/0.jpg", "Cat/12.jpg", "Dog/500.jpg", "Dog/7.jpg"]


@pytest.fixture
def pets(home, server, monkeypatch):
    """The set petimages, small: two archives in a mirror, one zip on the server."""
    def offer(official):
        known = {file: hashlib.sha256(data).hexdigest() for file, data in tars.items()}
        monkeypatch.setitem(download.DATASETS["petimages"], "files",
                            known | {OFFICIAL: f"bytes:{len(official)}"})
        server.files["/microsoft/" + OFFICIAL] = official

    tars = {"cat-000.tar": tar_of(CATS), "dog-000.tar": tar_of(DOGS)}
    monkeypatch.setattr(download, "MICROSOFT", server.url + "/microsoft/")
    offer(zip_of(PETS))
    offer.folder, offer.mirror = home / "petimages", home.parent / "mirror"
    (offer.mirror / "petimages").mkdir(parents=True)
    for file, data in tars.items():
        (offer.mirror / "petimages" / file).write_bytes(data)
    return offer


@pytest.mark.parametrize("place", ["mirror", "folder"])
def test_pets_from_a_mirrors_archives(pets, server, capsys, place):
    if place == "folder":                        # put there by hand
        shutil.copytree(pets.mirror / "petimages", pets.folder)
    folder = fetch("petimages", pets.mirror if place == "mirror" else None)
    assert inside(folder) == OF_MIRROR and download.is_whole(folder) and not server.seen
    assert (folder / "Cat" / "12.webp").read_bytes() == CATS["cat/00012.webp"]
    assert capsys.readouterr().out == "1 of 5 pictures broken and left out: Dog/8.webp\n"
    assert ImageFolder(folder).classes == ["Cat", "Dog"]


def test_pets_from_microsoft_then_from_the_mirror(pets, server, capsys):
    whole = server.files["/microsoft/" + OFFICIAL]
    server.breaks = [len(whole) // 3]
    pets.folder.mkdir(parents=True)
    (pets.folder / OFFICIAL).write_bytes(whole[:1000])       # as a browser left it
    assert inside(fetch("petimages")) == OF_MICROSOFT
    assert [start for _, start in server.seen] == [1000, len(whole) // 3]
    assert (capsys.readouterr().out
            == "2 of 6 pictures broken and left out: Cat/666.jpg, Dog/11702.jpg\n")

    (pets.folder / "Cat" / "12.jpg").unlink()
    fetch("petimages", pets.mirror)
    assert inside(pets.folder) == OF_MIRROR      # photos of the other form do not stay


@pytest.mark.parametrize("where", ["mirror", "folder"])
def test_microsofts_archive_put_by_hand_where_a_mirrors_are_damaged(pets, server, where):
    (pets.mirror / "petimages" / "dog-000.tar").write_bytes(tar_of(DOGS)[:-100])
    place = pets.mirror / "petimages" if where == "mirror" else pets.folder
    place.mkdir(exist_ok=True, parents=True)
    (place / OFFICIAL).write_bytes(server.files["/microsoft/" + OFFICIAL])
    fetch("petimages", pets.mirror)
    assert inside(pets.folder) == OF_MICROSOFT and not server.seen


@pytest.mark.parametrize("files, text", [
    (PETS | {"PetImages/../evil.txt": b"x"}, "refused, as it holds an unsafe name"),
    ({"PetImages/Cat/1.jpg": b"no photo"}, "no picture in it can be read")])
def test_microsofts_archive_damaged(pets, files, text):
    pets(zip_of(files))
    (pets.mirror / "petimages" / "dog-000.tar").unlink()
    error = error_of("petimages", pets.mirror)
    for needed in ("825 MB", f"{OFFICIAL}: {text}", "details.aspx?id=54765", str(pets.folder)):
        assert needed in error
    assert not download.is_whole(pets.folder) and OFFICIAL not in inside(pets.folder)


@pytest.mark.parametrize("module, name, place", [
    (Path, "write_bytes", "500.jpg"), (os, "replace", "Cat"), (os, "replace", "Dog")])
def test_ctrl_c_while_unpacking(pets, server, monkeypatch, module, name, place):
    original = getattr(module, name)

    def stop(path, more):
        if Path(path).name == place:
            raise KeyboardInterrupt
        return original(path, more)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop)
        assert download.main(["petimages"]) == 130
    assert not download.is_whole(pets.folder)
    fetch("petimages")
    assert inside(pets.folder) == OF_MICROSOFT
    assert len(server.seen) == 1                 # unpacked again, not loaded again


HEADER = "ID,Movie_Name_EN,Movie_Name_CN,Crawl_Date,Number,Username,Date,Star,Comment,Like\n"
KAGGLES = HEADER + """0,Long Night,长夜,2017-01-22,1,somebody,2015-05-13,3, 还行，“有点长”。,2404
1,Long Night,长夜,2017-01-22,2,"a, b",2015-05-13,5," 他说：""好看""
第二行　😭",0
2,Long Night,长夜,2017-01-22,3,somebody,2015-05-13,,沒有打分,1
3,Rain,雨季,2017-01-22,4,somebody,2015-05-13,7,七星,1
4,Rain,雨季,2017-01-22,5,somebody,2015-05-13,1,  ,1
5,Rain,雨季,2017-01-22,6,somebody
6,Rain,雨季,2017-01-22,7,somebody,2015-05-13,1,\udcff烂,1
7,Rain,雨季,2017-01-22,8,somebody,2015-05-13,1,LONG,1
8,Rain,雨季,2017-01-22,9,somebody,2015-05-13,1,烂片,1
""".replace("LONG", "长" * 140_000)
OURS = [["Movie_Name_CN", "Star", "Comment", "Source"], ["长夜", "3", "还行，“有点长”。", ""],
        ["长夜", "5", '他说："好看" 第二行 😭', ""], ["长夜", "", "沒有打分", ""],
        ["雨季", "1", "烂片", ""]]


def reviews(folder):
    with lzma.open(folder / "douban.csv.xz", "rt", encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def kaggle(home, monkeypatch):
    """A package kagglehub that unpacks `text` into its cache, or raises `error`."""
    def dataset_download(name):
        fake.calls.append(name)
        place = Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / name / "versions" / "7"
        place.mkdir(parents=True)
        if fake.error:
            (place / "7.archive").write_bytes(b"the beginning")
            raise fake.error
        (place / "DMSC.csv").write_bytes(fake.text.encode(errors="surrogateescape"))
        return str(place)

    fake = SimpleNamespace(calls=[], text=KAGGLES, error=None, dataset_download=dataset_download)
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    monkeypatch.setenv("KAGGLEHUB_CACHE", "the reader's")
    yield fake
    assert os.environ["KAGGLEHUB_CACHE"] == "the reader's"


def test_reviews_from_kaggle_in_our_form(kaggle, home, capsys):
    folder = fetch("douban")
    assert inside(folder) == [".complete", "douban.csv.xz"] and reviews(folder) == OURS
    assert capsys.readouterr().out == "4 reviews from Kaggle; 5 broken rows left out\n"
    assert kaggle.calls == ["utmhikari/doubanmovieshortcomments"]
    assert {path.name for path in folder.iterdir()} <= {".complete", ".lock", "douban.csv.xz"}
    fetch("douban")
    (folder / ".complete").unlink()
    fetch("douban")                              # looked through, not loaded again
    assert len(kaggle.calls) == 1 and download.is_whole(folder)
    for text in ((folder / "douban.csv.xz").read_bytes()[:-9], b"", b"no xz"):
        (folder / ".complete").unlink()
        (folder / "douban.csv.xz").write_bytes(text)
        assert reviews(fetch("douban")) == OURS
    assert len(kaggle.calls) == 4


@pytest.mark.parametrize("where", ["mirror", "folder"])
def test_kaggles_table_put_there_by_hand(kaggle, home, where):
    place = home / "douban" if where == "folder" else home.parent / "mirror" / "douban"
    place.mkdir(parents=True)
    (place / "DMSC.csv").write_bytes(b"\xef\xbb\xbf" + KAGGLES.encode(errors="surrogateescape"))
    assert reviews(fetch("douban", home.parent / "mirror")) == OURS and not kaggle.calls
    assert inside(home / "douban") == [".complete", "douban.csv.xz"]
    assert (place / "DMSC.csv").exists() == (where == "mirror")


def test_a_mirrors_reviews_are_taken_as_they_are(kaggle, home, monkeypatch):
    mirror = home.parent / "mirror" / "douban"
    mirror.mkdir(parents=True)
    small_data.douban(mirror)
    data = (mirror / "douban.csv.xz").read_bytes()
    monkeypatch.setitem(download.DATASETS["douban"], "files",
                        {"douban.csv.xz": hashlib.sha256(data).hexdigest()})
    folder = fetch("douban", mirror.parent)
    assert inside(folder) == [".complete", "douban.csv.xz"] and not kaggle.calls
    assert (folder / "douban.csv.xz").read_bytes() == data
    (folder / ".complete").unlink()
    (folder / "douban.csv.xz").write_bytes(data[:1000])
    fetch("douban", mirror.parent)
    assert (folder / "douban.csv.xz").read_bytes() == data
    (mirror / "douban.csv.xz").write_bytes(data[:1000])          # damaged: Kaggle's instead
    shutil.rmtree(folder)
    assert reviews(fetch("douban", mirror.parent)) == OURS


def refusal(status):
    response = Response()
    response.status_code = status
    return HTTPError(f"{status} Client Error.\n\nSee there", response=response)


@pytest.mark.parametrize("error, text, goes_on", [
    (RequestException("no network" + " x" * 999), "Kaggle: no network x x", True),
    (TimeoutError(), "Kaggle: TimeoutError()", True),
    (refusal(403), "#authenticate. It says: 403 Client Error. See there", True),
    (refusal(404), "Kaggle: 404 Client Error. See there", True),
    (ValueError("Unsupported archive"), "Kaggle: Unsupported archive", False)])
def test_kaggle_gives_nothing(kaggle, home, error, text, goes_on):
    kaggle.error = error
    message = error_of("douban")
    for needed in (text, "31 MB from a mirror", "doubanmovieshortcomments has DMSC.csv in a zip",
                   str(home / "douban"), "DATASETS_MIRROR"):
        assert needed in message
    assert len(message.splitlines()) == 5 and len(message) < 1200
    assert any("7.archive" in name for name in inside(home / "douban")) == goes_on
    assert not download.is_whole(home / "douban")


def test_without_the_package_of_kaggle(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert "Run: python -m pip install kagglehub" in error_of("douban")


@pytest.mark.parametrize("text", ["", HEADER, "<html>", KAGGLES.replace("Star", "Stars")])
def test_a_table_of_kaggles_without_our_columns(kaggle, home, text):
    kaggle.text = text
    assert "DMSC.csv: no row with Movie_Name_CN, Star, Comment in it; remov" in error_of("douban")
    assert not any("csv" in name for name in inside(home / "douban"))
    kaggle.text = KAGGLES
    assert reviews(fetch("douban")) == OURS


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
def test_stopped_while_the_reviews_are_written(kaggle, home, monkeypatch, capsys, stop):
    with monkeypatch.context() as patch:
        patch.setattr("douban.tqdm", mock.Mock(side_effect=stop))
        assert download.main(["douban"]) == (130 if stop is KeyboardInterrupt else 1)
    message = capsys.readouterr().err
    assert "Run the same command" in message or "No space left. Free some space" in message
    assert inside(home / "douban") == ["DMSC.csv", "douban.csv.xz.part"]
    assert reviews(fetch("douban")) == OURS and len(kaggle.calls) == 1    # not loaded again


def test_no_space_for_kaggles_archive(kaggle, home):
    kaggle.error = OSError(errno.ENOSPC, "No space left")
    assert "0.7 GB while it is unpacked in" in error_of("douban")


@pytest.mark.skipif(not (MIRROR / "douban" / "douban.csv.xz").is_file(),
                    reason="DATASETS_MIRROR holds no douban/douban.csv.xz")
def test_the_real_reviews(home):
    file = fetch("douban", MIRROR) / "douban.csv.xz"             # its checksum is compared
    with lzma.open(file, "rt", encoding="utf-8", newline="") as text:
        rows = csv.DictReader(text)
        assert rows.fieldnames == OURS[0]
        for row, _ in zip(rows, range(1000)):
            assert row["Star"] in {"", *"12345"} and row["Comment"] and row["Source"]


def test_small_reviews_have_what_the_real_ones_have(tmp_path):
    small_data.douban(tmp_path)
    header, *rows = reviews(tmp_path)
    assert header == OURS[0] and len(rows) == 400 and len({film for film, *_ in rows}) == 10
    stars = [star for _, star, *_ in rows]
    assert set(stars) == {"", *"12345"} and stars.count("") == 80
    assert len({text for _, _, text, _ in rows}) < 400
    text = "".join(text for *_, text, _ in rows)
    assert "驚喜" in text and "👍" in text


@pytest.mark.parametrize("name", sorted(download.DATASETS))
def test_every_entry_is_complete_and_its_error_helps(name, home, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    details = download.DATASETS[name]
    assert all(details[key] for key in ("about", "size", "by_hand", "files"))
    text = error_of(name)
    assert details["by_hand"] in text and str(home / name) in text
    assert len(text.splitlines()) <= 6 and not download.is_whole(home / name)


@pytest.mark.skipif(not MIRROR.is_dir(), reason="DATASETS_MIRROR names no folder")
def test_the_checksums_are_those_of_the_real_files():
    checked = [(download.matches(MIRROR / name / file, known), file)
               for name, details in download.DATASETS.items()
               for file, known in details["files"].items() if (MIRROR / name / file).exists()]
    assert checked and all(right for right, _ in checked), checked


def test_the_command_line(home, capsys):
    assert download.main(["--list"]) == 0 == download.main([])
    assert capsys.readouterr().out.count("not here") == 2 * len(download.DATASETS)
    assert download.main(["small"]) == 0
    assert f"ready in {home / 'small'}" in capsys.readouterr().out
    assert download.main(["--list"]) == 0
    assert capsys.readouterr().out.count("not here") == len(download.DATASETS) - 1
    assert download.main(["nothing"]) == 1
    assert "There is no set 'nothing'" in capsys.readouterr().err
