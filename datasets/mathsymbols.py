"""Gets the set mathsymbols together: from a mirror, or built out of public repositories.

A builder reads a repository's zip and writes an .npz file to `part`: images (n, 56, 56) uint8,
bright on black; labels, places in SYMBOLS; test, whether a row is test data; and the names of
the pictures or of the writers.
"""
import hashlib
import io
import itertools
import os
import zipfile
from xml.etree import ElementTree

import cv2
import numpy as np
from tqdm import tqdm

from transfer import DownloadError, members

GITHUB = "https://codeload.github.com/"
SOURCES = {
    "bhmsds": GITHUB + "wblachowski/bhmsds/zip/07d208e41923b061e338c241e59daacdd2752d53",
    "mdas": GITHUB + "jdmacleod/handwritten-calculator/zip/"
                     "c00b70f1dfafe54c17de6ed7fc49b9598d134e2c",
    "crohme": GITHUB + "vndee/offline-crohme/zip/0e09cbdbe7e549ee3b7fcb9ef8548906bcf6947d"}

SYMBOLS = "+-×÷=()"                 # a label is a place in this string
LATEX = {"+": 0, "-": 1, r"\times": 2, r"\div": 3, "=": 4, "(": 5, ")": 6}
INK = "{http://www.w3.org/2003/InkML}"
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
ROW_WRITERS = {                     # of rows that recognizers are measured on: stem -> ends
    "ivc/depart": "003 008 010 011 012 013 015 016 017 018 020 021 022 023 024 025 026 029 030 "
                  "031 032 034 035 037 038 039",
    "MfrDB/": "Unknown User002 User006 User014 User015 User016 User051 User065 User095 User113 "
              "User172 User178",
    "TestEM2014GT/": "23 35 36 505 513 515 516 annot_170 annot_275 annot_55 annot_90",
    "TEST2016_INKML_GT/UN_": "110 111 114 117 118 119 123 125 131 453 454 455 456 457 458 460 461",
    "MathBrush/session_2009": "210-947 213-137 213-139 22-1017 22-947 22-949 23-1251 23-1253 "
                              "23-1254 23-131 24-1312 24-1331 25-1126 26-131",
}


def build_bhmsds(archive, part):
    """Photographed + and -: symbols/plus-0105.png, 28x28, black on white."""
    pictures = members(archive, r"[^/]+/symbols/(plus|minus)-\d+\.png")
    save_pictures(part, ((name.split("/", 1)[1], data) for name, data in pictures),
                  {"plus-": 0, "minus-": 1}, lambda name: in_test("bhmsds" + name))


def build_mdas(archive, part):
    """Four signs by two writers: a zip in the repository, with folders test, train and val."""
    labels = {"addition_plus": 0, "subtraction_minus": 1, "multiplication_cross": 2,
              "division_obelus": 3}
    pattern = rf"symbols_partitioned/(test|train|val)/({'|'.join(labels)})/[^/]+\.png"
    inside = (picture for _, data in members(archive, r".*/mdas_symbols_v1\.zip")
              for picture in members(io.BytesIO(data), pattern))
    save_pictures(part, inside, labels, lambda name: "/test/" in name)


def save_pictures(part, pictures, labels, test):
    """pictures: (name, file) pairs; labels: what a name holds -> label; test: name -> bool."""
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


def build_crohme(archive, part):
    """Signs out of handwritten formulas. Their files hold pen strokes, which we draw."""
    written = {label: {} for label in range(len(SYMBOLS))}     # label -> writer -> strokes
    seen = set()                    # the package holds many formulas two or three times
    for name, data in tqdm(members(archive, r".*\.inkml"), "reading formulas", delay=2,
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
    if not wanted <= {row[1] for row in rows}:
        raise DownloadError("the source has changed, some signs were not found")
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


FILES = ("crohme", "kaggle_hms14", "herc", "bhmsds", "mdas", "ternak")
BUILDERS = {"crohme": build_crohme, "bhmsds": build_bhmsds, "mdas": build_mdas}


def prepare(folder, get):
    """Gets or builds what it can; any file will do. Returns whether all is there that can be.

    What only a mirror has may be missing for ever. What could not be built is to be tried again.
    """
    got, missing, failed = [], [], []
    for name in FILES:
        try:
            get_or_build(name, folder, get)
            got.append(f"{name}.npz")
        except DownloadError as error:
            missing.append(f"{name}.npz")
            if name in BUILDERS:
                failed.append(str(error))
    if not got:
        raise DownloadError("\n".join(failed))
    if missing:
        print(f"mathsymbols: got {', '.join(got)}; not {', '.join(missing)}.")
    if failed:
        print("It works so, but equals and brackets come from crohme. Tried in vain, and tried "
              "again next time:\n" + "\n".join(failed))
    return not failed


def get_or_build(name, folder, get):
    target, part = folder / f"{name}.npz", folder / f"{name}.npz.part"
    # A built .npz (a zip inside) has no known checksum; it gets its name when it is done.
    if name in BUILDERS and zipfile.is_zipfile(target):
        return
    try:
        get(target.name)
        return
    except DownloadError:
        if name not in BUILDERS:
            raise
    archive = get(f"{name}.zip", SOURCES[name])
    try:
        BUILDERS[name](archive, part)
    except DownloadError as error:
        archive.unlink()
        raise DownloadError(f"{archive.name}: {error}; removed") from error
    os.replace(part, target)
    archive.unlink()
