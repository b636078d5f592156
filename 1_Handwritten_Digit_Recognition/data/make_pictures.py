"""Makes the demo pictures of this folder from MNIST's test digits and two MIT-licensed sets.

    python make_pictures.py        (it fetches the data sets mnist and mathsymbols)

The truth is in the file name: x stands for ×, d for ÷.
"""
import gzip
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "datasets"))
from download import fetch

HERE = Path(__file__).resolve().parent


def glyphs():
    """Symbol -> array (N, h, w) uint8, ink bright. No symbol here was used for training."""
    folder = fetch("mnist")
    def idx(name, header):
        return np.frombuffer(gzip.open(folder / name).read(), np.uint8, offset=header)
    digits = idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = idx("t10k-labels-idx1-ubyte.gz", 8)
    found = {str(digit): digits[labels == digit] for digit in range(10)}
    for file, symbols in {"mdas": "+-×÷", "bhmsds": "+-"}.items():
        data = np.load(fetch("mathsymbols") / f"{file}.npz")
        for symbol in symbols:
            chosen = data["images"][data["test"] & (data["labels"] == "+-×÷".index(symbol))]
            found[symbol] = chosen if file == "mdas" else np.concatenate([found[symbol], chosen])
    return found


def pen_stroke(symbol, height, rng):
    """= ( ) stand only in sets for non-commercial use: drawn as jittered strokes."""
    bow = 0.3 if symbol == "(" else -0.3
    forms = {"=": [[(0, .35), (.3, .34), (.6, .36)], [(.02, .65), (.3, .66), (.62, .64)]],
             "(": [[(bow, 0), (0, .25), (-.02, .7), (bow, 1)]],
             ")": [[(bow, 0), (0, .25), (.02, .7), (bow, 1)]]}
    picture = np.zeros((2 * height, 2 * height), np.uint8)
    for stroke in forms[symbol]:
        points = (np.array(stroke) + rng.normal(0, .015, (len(stroke), 2)) + (.5, .3)) * height
        curve = np.stack([np.interp(np.linspace(0, 1, 30), np.linspace(0, 1, len(points)), axis)
                          for axis in points.T], 1)
        curve = cv2.GaussianBlur(curve, (1, 9), 0, borderType=cv2.BORDER_REPLICATE)
        cv2.polylines(picture, [np.int32(curve)], False, 255, max(2, height // 11), cv2.LINE_AA)
    return crop(picture)


def crop(picture):
    rows, columns = np.flatnonzero(picture.max(1) > 60), np.flatnonzero(picture.max(0) > 60)
    return picture[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def glyph(found, symbol, height, rng):
    """One symbol as ink uint8 (h, w), its size in proportion to digits `height` px tall."""
    if symbol in "=()":
        return pen_stroke(symbol, height if symbol != "=" else int(.7 * height), rng)
    ink = crop(found[symbol][rng.integers(len(found[symbol]))])
    scale = height / 20 if symbol.isdigit() else .6 * height / max(ink.shape)
    ink = cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.uint8(np.clip((cv2.GaussianBlur(ink, (0, 0), height / 60) - 70.0) * 2.2, 0, 255))


def write_row(found, text, height, gap, rng, jitter=.06):
    """A row of symbols as ink uint8 (H, W); gap in digit heights, negative to touch."""
    inks = [glyph(found, symbol, height, rng) for symbol in text]
    width = sum(ink.shape[1] for ink in inks) + int(height * (len(text) + 2) * (abs(gap) + .3))
    row = np.zeros((3 * height, width), np.uint8)
    x = height // 2
    for symbol, ink in zip(text, inks):
        y = int(1.5 * height - ink.shape[0] / 2 + rng.normal(0, jitter) * height)
        place = row[y:y + ink.shape[0], x:x + ink.shape[1]]
        np.maximum(place, ink[:, :place.shape[1]], out=place)
        x += ink.shape[1] + int(height * (gap + (0 if symbol.isdigit() else .12)
                                          + rng.uniform(0, .05)))
    return row[:, :x + height // 2]


def put_on_paper(row, size, at, paper, pen, rng, turn=0, slant=0, light=0, shadow=False,
                 table=False, squares=0):
    """Ink (H, W) on paper of `size` (height, width), at (y, x) -> uint8 RGB (height, width, 3).

    paper, pen: RGB colours in [0, 1]; turn: degrees; slant: shear of the writing; light: fall of
    brightness over the width; squares: pixels of squared paper's grid.
    """
    shear = np.float32([[1, -slant, slant * len(row)], [0, 1, 0]])
    row = cv2.warpAffine(row, shear, (row.shape[1] + int(slant * len(row)), len(row)))
    height, width = size
    ink = np.zeros(size, np.float32)
    y, x = at
    part = row[:height - y, :width - x]
    ink[y:y + part.shape[0], x:x + part.shape[1]] = part / 255
    centre = x + part.shape[1] / 2, y + part.shape[0] / 2
    ink = cv2.warpAffine(ink, cv2.getRotationMatrix2D(centre, turn, 1), (width, height))
    picture = np.ones((*size, 3), np.float32) * paper
    if squares:
        picture[::squares], picture[:, ::squares] = (.55, .62, .78), (.55, .62, .78)
    picture = picture * (1 - ink[..., None]) + np.array(pen) * ink[..., None]
    across, down = np.meshgrid(np.linspace(-.5, .5, width), np.linspace(-.5, .5, height))
    picture *= (1 - light * (across + .6 * down))[..., None]
    if shadow:
        edge = cv2.GaussianBlur(np.float32(across + .5 * down > .12), (0, 0), width / 60)
        picture *= (1 - .3 * edge)[..., None]
    if table:
        picture[:int(.13 * height)] = (.13, .11, .1)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (*size, 1)), (0, 0), 1.2)
    picture = cv2.GaussianBlur(picture, (0, 0), .8) + .012 * grain[..., None]
    return np.uint8(np.clip(255 * picture, 0, 255))


WHITE, GREY, CREAM, PINK, BLUE = ((.95, .95, .94), (.62, .63, .63), (.93, .87, .72),
                                  (.85, .72, .72), (.72, .8, .9))
BLACK_PEN, BLUE_PEN, RED_PEN, PENCIL = (.1, .1, .12), (.12, .18, .55), (.6, .1, .12), (.4,) * 3

#  file, text, height, gap, size, at (y, x), paper, pen, further arguments
PICTURES = [
    ("12x34+65d78.jpg", 84, .15, (440, 960), (80, 40), CREAM, BLUE_PEN,
     dict(light=.35, turn=2, shadow=True)),
    ("7.jpg", 150, .1, (400, 400), (0, 30), WHITE, BLACK_PEN, dict(light=.2)),
    ("3.jpg", 90, .1, (500, 600), (150, 300), PINK, PENCIL, dict(light=.4, shadow=True)),
    ("20481.jpg", 60, .14, (500, 800), (200, 150), GREY, BLACK_PEN, dict(turn=-4, light=.3)),
    ("1970365.jpg", 40, .2, (700, 1000), (300, 400), WHITE, PENCIL, dict(table=True, light=.25)),
    ("90210.jpg", 80, -.03, (400, 700), (80, 90), CREAM, BLACK_PEN, dict(light=.2)),
    ("582+967.jpg", 55, .1, (600, 900), (220, 200), BLUE, BLUE_PEN,
     dict(shadow=True, turn=3, slant=.35)),
    ("48x6-95.jpg", 36, .18, (700, 1000), (420, 250), PINK, BLACK_PEN, dict(light=.4, turn=-3)),
    ("2x(3+4)=14.jpg", 60, .16, (500, 1000), (160, 80), WHITE, RED_PEN, dict(light=.3)),
    ("(86-29)d3.jpg", 64, .15, (600, 900), (200, 140), GREY, BLACK_PEN,
     dict(table=True, shadow=True)),
    ("640d8+5x9.jpg", 50, .2, (500, 900), (150, 100), CREAM, PENCIL, dict(light=.45, turn=5)),
    ("7+8=15.jpg", 70, .1, (400, 800), (90, 60), WHITE, BLUE_PEN, dict(light=.15, shadow=True)),
]
HARD = [
    ("3690.jpg", 80, -.22, (400, 600), (80, 90), WHITE, BLACK_PEN, dict(light=.2)),
    ("452-18.jpg", 60, .12, (500, 800), (150, 120), WHITE, PENCIL, dict(squares=24)),
    ("5+27.jpg", 70, .14, (700, 700), (240, 100), CREAM, BLUE_PEN, dict(turn=32, light=.3)),
]


def main():
    found = glyphs()
    for folder, pictures in (("", PICTURES), ("hard", HARD)):
        (HERE / folder).mkdir(exist_ok=True)
        for name, height, gap, size, at, paper, pen, more in pictures:
            rng = np.random.default_rng(len(name) * 1000 + height)
            text = Path(name).stem.replace("x", "×").replace("d", "÷")
            row = write_row(found, text, height, gap, rng)
            picture = Image.fromarray(put_on_paper(row, size, at, paper, pen, rng, **more))
            picture.save(HERE / folder / name, quality=88)
    rng = np.random.default_rng(5)    # white chalk, and a transparent drawing
    ink = write_row(found, "31×5", 90, .12, rng)
    board = put_on_paper(ink, (300, 600), (10, 40), (.13, .2, .17), (.9, .92, .88), rng, light=.3)
    Image.fromarray(board).save(HERE / "31x5.jpg", quality=88)
    ink = write_row(found, "2604", 80, .12, rng)
    clear = np.zeros((*ink.shape, 4), np.uint8)
    clear[..., 3] = ink
    Image.fromarray(clear).save(HERE / "2604.png", optimize=True)


if __name__ == "__main__":
    main()
