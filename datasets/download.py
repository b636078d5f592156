"""Loads the data sets of these notebooks into datasets/NAME.

    python datasets/download.py --list                the sets
    python datasets/download.py mnist mathsymbols     load two of them

DATASETS_MIRROR (or --mirror) names a folder that is looked at first, for example one that holds
mnist/train-images-idx3-ubyte.gz. A new set is a new entry in the table DATASETS.
"""
import argparse
import csv
import json
import os
import re
import shutil
import sys
import warnings
from functools import partial
from importlib import import_module
from pathlib import Path

from filelock import FileLock, Timeout
from PIL import Image
from tqdm import tqdm

import douban
from transfer import DownloadError, download, matches, members

HERE = Path(__file__).resolve().parent
STAMP = ".complete"             # file name -> size, written when a set is whole
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO")
PHOTO = r"(?:PetImages/)?([Cc]at|[Dd]og)/0*([0-9]+)\.(jpg|webp)"    # kind, number, suffix
MICROSOFT = "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
MNIST = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
         "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


def fetch(name, mirror=None):
    """Returns the folder of a set; loads what is missing first. Raises DownloadError."""
    if name not in DATASETS:
        raise DownloadError(f"There is no set {name!r}. The sets: {', '.join(DATASETS)}.")
    folder = HERE / name
    if is_whole(folder):
        return folder
    mirror = mirror or os.environ.get("DATASETS_MIRROR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")    # the system frees it when its holder ends or dies
        try:
            turn = lock.acquire(timeout=2)
        except Timeout:
            print(f"Another process is loading {name}: waiting for it.")
            turn = lock.acquire()
        with turn:
            if not is_whole(folder):         # else the process that we waited for has loaded it
                load(name, folder, Path(mirror) / name if mirror else None)
    except OSError as error:        # of the disk: those of the network end in `download`
        raise DownloadError(
            f"{name} needs {DATASETS[name]['size']} in {folder}, but: {error}. Free some space, "
            "make the folder writable or move away what is in its place. Then run this again: it "
            "goes on from where it stopped.") from error
    return folder


def load(name, folder, mirror):
    """Gets the files of a set, prepares what is made of them, then stamps the folder."""
    entry = DATASETS[name]
    get, whole = partial(get_file, entry, folder, mirror), True
    try:
        if "prepare" in entry:
            whole = entry["prepare"](folder, get) is not False
        else:
            for file in entry["files"]:
                get(file)
    except DownloadError as error:
        raise DownloadError("\n".join([
            f"{name} ({entry['size']}) is not complete. Tried in vain:",
            *(f"  - {line}" for line in str(error).splitlines()),
            f"By hand: {entry['by_hand']}",
            f"Put the files into {folder}, or set DATASETS_MIRROR to a folder that holds them as "
            f"{name}{os.sep}FILE. Then run this again: what is there is kept."])) from None
    if whole:
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        stamp(folder)


def get_file(entry, folder, mirror, file, *urls, tried=""):
    """Puts one file into the folder, from the first source that works; returns its path."""
    known, tried = entry["files"].get(file), tried.splitlines()    # what has failed before
    target, part = folder / file, folder / f"{file}.part"
    if target.exists():
        if matches(target, known):
            return target
        os.replace(target, part)             # perhaps the beginning of the right file
        tried.append(f"{target}: wrong checksum, renamed to {part.name}")
    sources = [*([mirror / file] if mirror else []),
               *(url + file for url in entry.get("urls", ())), *urls]
    for source in sources:
        get, resumed = shutil.copyfile if isinstance(source, Path) else download, part.exists()
        try:
            get(source, part)
            if resumed and not matches(part, known):     # a part that leads nowhere: from 0
                part.unlink()
                get(source, part)
            if matches(part, known):
                os.replace(part, target)
                return target
            part.unlink()
            tried.append(f"{source}: wrong checksum, removed")
        except (DownloadError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            tried.append(str(error))
    raise DownloadError("\n".join(tried) or f"{file}: only a mirror has it")


def stamp(folder):
    """Notes names and sizes of a folder's files: from now on it counts as whole."""
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


def drop_broken(paths):
    """Removes the pictures that can't be decoded to their end; counts and names them."""
    broken = []
    for path in tqdm(paths, "checking pictures", delay=2, leave=False):
        try:
            # Without `formats`, Pillow runs Ghostscript on PostScript, whatever the file's name.
            with (warnings.catch_warnings(action="ignore"),
                  Image.open(path, formats=FORMATS) as picture):
                picture.convert("RGB")           # open() reads the header only, this reads all
        except Exception:                        # each decoder has errors of its own
            path.unlink()
            broken.append(f"{path.parent.name}/{path.name}")
    if len(broken) == len(paths):
        raise DownloadError("no picture in it can be read")
    if broken:
        print(f"{len(broken)} of {len(paths):,} pictures broken and left out: {', '.join(broken)}")


def prepare_strings(folder, get):
    """Gets the pictures that index.csv names."""
    with open(get("index.csv"), encoding="utf-8", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    drop_broken([get(name) for name in names])


def prepare_petimages(folder, get):
    """Makes Cat/12.webp of a mirror's cat/00012.webp, or Cat/12.jpg of PetImages/Cat/12.jpg."""
    *tars, official = DATASETS["petimages"]["files"]
    try:
        archives = [get(file) for file in tars]
    except DownloadError as error:
        archives = [get(official, MICROSOFT + official, tried=str(error))]
    fresh = folder / "unpacked"
    shutil.rmtree(fresh, ignore_errors=True)     # what a run that was stopped has left
    try:
        for archive in archives:
            for name, data in tqdm(members(archive, PHOTO), archive.name, delay=2, leave=False):
                kind, number, suffix = re.fullmatch(PHOTO, name).groups()
                path = fresh / kind.title() / f"{number}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        drop_broken(sorted(fresh.glob("*/*")))
    except DownloadError as error:
        archive.unlink()
        raise DownloadError(f"{archive.name}: {error}; removed") from error
    for kind in [*fresh.iterdir()]:              # moved when complete, stamped when moved
        shutil.rmtree(folder / kind.name, ignore_errors=True)
        os.replace(kind, folder / kind.name)
    fresh.rmdir()
    for file in (*tars, official):
        (folder / file).unlink(missing_ok=True)


# about, size, by_hand     texts for --list and for error messages
# files                    name -> what is known of it (see `matches`)
# urls                     a file is loaded from URL + name; without them, only a mirror has it
# prepare(folder, get)     makes a set that is more than its files. get("a.zip"), or with a URL
#                          get("a.zip", url), puts a file into the folder and returns its path, or
#                          raises DownloadError. Returns False if it is to be called next time too
DATASETS = {
    "mnist": {
        "about": "70,000 handwritten digits, 28x28; LeCun and Cortes; Keras states CC BY-SA 3.0",
        "size": "12 MB",
        "by_hand": "https://ossci-datasets.s3.amazonaws.com/mnist/ has four files, see readme.md.",
        "urls": ["https://ossci-datasets.s3.amazonaws.com/mnist/",
                 "https://storage.googleapis.com/cvdf-datasets/mnist/"],
        "files": dict(zip(MNIST, (
            "unzipped:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "unzipped:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "unzipped:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "unzipped:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"))),
    },
    "fashionmnist": {
        "about": "70,000 pictures of clothes, 28x28, in the form of mnist; MIT, Zalando SE",
        "size": "31 MB",
        "by_hand": "github.com/zalandoresearch/fashion-mnist has the four files in data/fashion.",
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
        "about": "handwritten signs + - × ÷ = ( ), 56x56; terms of each source: see readme.md",
        "size": "6 MB, more while it is built",
        "by_hand": "run this on a computer with a network, and copy its datasets/mathsymbols.",
        # Imported when it is wanted: the other sets need no OpenCV.
        "prepare": lambda folder, get: import_module("mathsymbols").prepare(folder, get),
        "files": {
            "crohme.npz": "50d1b622bb105eda10be62b91e9c2d6fd93a11aeb24faa3ed7c40d9b4579db8d",
            "kaggle_hms14.npz": "b80934570718af9dbf5910a45de1ec99da57d697bb209c9cc9268f309c7e95c6",
            "herc.npz": "dfd1934cb0e532c7cf2e5b02e220d1e7a67d3ef155f6122ad1bd0ce09e037b24",
            "bhmsds.npz": "0b464c8358b73d6fe4d6661dbc8506d1a847f9582b9b284d8ff50357dc506949",
            "mdas.npz": "e1bf03fea050335f1c451add2351fca65c54ccff6b5c4457aeadd5eadbc2172a",
            "ternak.npz": "2d86483e338a4c7bb7cc67959d4c4902fb620be7627740c21d9307025f2ab4f2",
        },
    },
    "handwritten_strings": {
        "about": "242 pictures of handwritten digit rows and sums; most sources state no terms",
        "size": "15 MB",
        "by_hand": "there is no public download. You need this set only to measure again.",
        "prepare": prepare_strings,
        "files": {"index.csv": "2a86761c2db499841dfbc66b675611d8e10d209a57ab17e4cac2270330e0e842"},
    },
    "petimages": {
        "about": "25,000 photos in the folders Cat and Dog; non-commercial research only",
        "size": "825 MB, twice that while it is unpacked",
        "by_hand": "download kagglecatsanddogs_5340.zip (824,887,076 bytes) and leave it packed: "
                   "https://www.microsoft.com/en-us/download/details.aspx?id=54765",
        "prepare": prepare_petimages,
        "files": {               # the tars: a mirror's, the same photos in 128x128, 92 MB
            "cat-000.tar": "c6c3207a7e88b97e734aaf2f923854e320a7627cb8cd598da7f93db37c66dd16",
            "cat-001.tar": "fddc004c42a056ff62c828a629487869c50af8dbbd53e7fefb09a8100cd681df",
            "cat-002.tar": "54df3037989e3a6e5cbc022d8a3d49a730f226fca8d9938f92a3f32ad14b73c7",
            "cat-003.tar": "61f85e592b733ab24967680fb1c98db38ef36c766a7e60fb2fab1d2ae5e2237c",
            "cat-004.tar": "55f3a381ef2e0d2dc6c222fb09b33d9fc5b2795a0a1b75ae00fa35dd3fc99803",
            "dog-000.tar": "8ad12b600499033bc2e3c4dcc715d55a6e15d7865cab646b1bc2ecc28bb6d494",
            "dog-001.tar": "fddf90d7e6738307ad42407c4d8d502b3478840807d2dfbaae59574e82da44e0",
            "dog-002.tar": "25df8551b4085eed2ccfaed3d3510636499e83f4575a0617777cf90fa5f9f6e9",
            "dog-003.tar": "33b0498a363879d5de7fad9b4f4d158ec70ab6f37c6e8e71df5433edf6cf1d15",
            "dog-004.tar": "81bc7e117f46351dd7d58618e0b025695408be46ea9f859784d1d5dc54d007b2",
            "kagglecatsanddogs_5340.zip": "bytes:824887076",
        },
    },
    "douban": douban.ENTRY,
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Loads data sets into the folder datasets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(DATASETS))
    parser.add_argument("--mirror", help="a folder to look at first, instead of DATASETS_MIRROR")
    parser.add_argument("--list", action="store_true", help="show the sets and stop")
    options = parser.parse_args(arguments)
    if options.list or not options.names:
        for name, entry in DATASETS.items():
            print(f"{name:<20} {'here' if is_whole(HERE / name) else 'not here':<9} "
                  f"{entry['about']} ({entry['size']})")
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
