"""Small generated data sets in the real files' formats, on which notebooks run in seconds.

One function a data set: it writes the files into a folder. A new data set of
datasets/download.py needs one more function here, with its name.
"""
import csv
import gzip
import lzma

import cv2
import numpy as np

CODES = {"crohme": range(7), "kaggle_hms14": range(4), "herc": (0, 1, 5, 6), "bhmsds": (0, 1),
         "mdas": range(4), "ternak": range(3)}    # + - × ÷ = ( ) that a source holds


def jitter(image, rng):
    """The picture a little turned, scaled and shifted."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-10, 10),
                                     rng.uniform(0.85, 1.1))
    matrix[:, 2] += rng.uniform(-0.04, 0.04, 2) * (width, height)
    return cv2.warpAffine(image, matrix, (width, height))


def digit(value, rng):
    """uint8 (28, 28), ink bright."""
    image = np.zeros((56, 56), np.uint8)
    thick = int(rng.integers(3, 6))
    cv2.putText(image, str(value), (12, 46), cv2.FONT_HERSHEY_SIMPLEX, 1.8, 255, thick, cv2.LINE_AA)
    return cv2.resize(jitter(image, rng), (28, 28), interpolation=cv2.INTER_AREA)


def symbol(label, rng):
    """uint8 (56, 56), ink bright; labels 0-6 are + - × ÷ = ( )."""
    lines = {0: [(8, 28, 48, 28), (28, 8, 28, 48)], 1: [(8, 28, 48, 28)],
             2: [(10, 10, 46, 46), (46, 10, 10, 46)],
             3: [(8, 28, 48, 28), (28, 14, 28, 15), (28, 42, 28, 43)],
             4: [(8, 20, 48, 20), (8, 36, 48, 36)]}
    image, thick = np.zeros((56, 56), np.uint8), int(rng.integers(2, 6))
    for x, y, x2, y2 in lines.get(label, []):
        cv2.line(image, (x, y), (x2, y2), 255, thick, cv2.LINE_AA)
    if label in (5, 6):
        turn = 180 if label == 5 else 0
        centre = (38 if label == 5 else 18, 28)
        cv2.ellipse(image, centre, (14, 24), turn, -70, 70, 255, thick, cv2.LINE_AA)
    return jitter(image, rng)


def write_idx(path, array):
    """MNIST's file format, packed: a magic number, the sizes, the bytes."""
    head = np.array([2048 + array.ndim, *array.shape], ">i4").tobytes()
    with gzip.open(path, "wb") as file:
        file.write(head + array.astype(np.uint8).tobytes())


def mnist(folder, seed=0):
    rng = np.random.default_rng(seed)
    for part, count in (("train", 600), ("t10k", 200)):
        labels = rng.permutation(np.arange(count) % 10)
        images = np.stack([digit(label, rng) for label in labels])
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)


def fashionmnist(folder):
    mnist(folder, seed=1)    # the same files; what they show does not matter here


def mathsymbols(folder):
    rng = np.random.default_rng(0)
    for name, classes in CODES.items():
        labels = np.repeat(np.array(classes, np.uint8), 9)
        number = np.arange(len(labels))
        writers = np.array([f"TestEM2014GT/annot_{n % 9}" for n in number])
        files = np.array([f"symbols/{n}.png" for n in number])
        more = ({"writer": writers, "in_strings": number % 9 == 1} if name == "crohme"
                else {"names": files})
        np.savez_compressed(folder / f"{name}.npz", labels=labels, test=number % 9 < 3, **more,
                            images=np.stack([symbol(label, rng) for label in labels]))


def handwritten_strings(folder):
    rows = [("12+34", "expression", "photo-paper"), ("507", "digits", "scan"),
            ("9-6=3", "expression", "screen"), ("(2+4)", "expression", "ink")]
    with open(folder / "index.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "truth", "kind", "medium", "source", "license"])
        for number, (truth, kind, medium) in enumerate(rows, 1):
            picture = np.full((120, 60 + 70 * len(truth)), 230, np.uint8)
            for place, sign in enumerate(truth):
                cv2.putText(picture, sign, (30 + 70 * place, 85), cv2.FONT_HERSHEY_SIMPLEX, 2, 30,
                            5, cv2.LINE_AA)
            name = f"{number:03}_{medium}_{kind}.jpg"
            cv2.imwrite(str(folder / name), picture)
            table.writerow([name, truth, kind, medium, "generated", "MIT"])


def petimages(folder):
    """A cat has pointed ears above its head, a dog ears that hang beside it."""
    rng = np.random.default_rng(0)
    for kind in ("Cat", "Dog"):
        (folder / kind).mkdir()
        for number in range(60):
            cv2.imwrite(str(folder / kind / f"{number}.jpg"), pet(kind, rng))


def pet(kind, rng):
    """uint8 (40 … 90, 40 … 90, 3): a head in any colour, before any colour."""
    height, width = rng.integers(40, 91, 2)
    ground = rng.integers(0, 256, 3)
    fur = (ground + rng.integers(80, 177, 3)) % 256         # far enough from the ground
    image = np.clip(ground + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    radius = min(height, width) * rng.uniform(0.24, 0.32)
    x, y = np.array([width, height]) * rng.uniform(0.45, 0.55, 2)
    colour = [int(value) for value in fur]
    cv2.circle(image, (round(x), round(y)), round(radius), colour, -1, cv2.LINE_AA)
    for side in (-1, 1):
        if kind == "Cat":
            ear = [(0.95, -0.3), (0.85, -1.5), (0.2, -0.95)]
            points = [(x + side * radius * dx, y + radius * dy) for dx, dy in ear]
            cv2.fillPoly(image, [np.round(points).astype(np.int32)], colour, cv2.LINE_AA)
        else:
            ear = (round(x + side * radius * 1.05), round(y + radius * 0.35))
            axes = (round(radius * 0.3), round(radius * 0.85))
            cv2.ellipse(image, ear, axes, -8 * side, 0, 360, colour, -1, cv2.LINE_AA)
        eye = (round(x + side * radius * 0.4), round(y - radius * 0.2))
        cv2.circle(image, eye, max(1, round(radius * 0.12)), (20, 20, 20), -1, cv2.LINE_AA)
    cv2.circle(image, (round(x), round(y + radius * 0.3)), max(1, round(radius * 0.15)),
               (20, 20, 20), -1, cv2.LINE_AA)
    return image


FILMS = ["山海", "长夜", "归途", "雨季", "孤岛", "小城", "星河", "旧梦", "逆光", "彼岸"]
PLAIN = ["这部电影", "剧情", "演员", "导演", "结尾", "音乐", "镜头", "故事", "画面", "节奏", "人物"]
GOOD = ["好看", "感动", "精彩", "喜欢", "值得一看", "溫暖", "驚喜", "真實", "👍", "😭太好哭了"]
BAD = ["难看", "无聊", "失望", "烂片", "浪费时间", "尷尬", "無趣", "太長", "👎", "😡看不下去"]


def douban(folder, count=400):
    """Good and bad reviews differ by their words; every fifth has no star, every 40th is a copy."""
    rng, rows = np.random.default_rng(0), []
    for number in range(count):
        star = int(rng.integers(1, 6))
        good = rng.random(3) < (star - 1) / 4        # 5 stars: only good words, 3: half of them
        words = [str(rng.choice(PLAIN)) + str(rng.choice(GOOD if each else BAD)) for each in good]
        film, source = FILMS[number % 10], f"source{number * 3 // count}"
        rows.append([film, star if number % 5 else "", "，".join(words) + "。", source])
        if number % 40 == 39:
            rows[-1] = [*rows[-8][:3], source]
    with lzma.open(folder / "douban.csv.xz", "wt", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["Movie_Name_CN", "Star", "Comment", "Source"])
        table.writerows(rows)
