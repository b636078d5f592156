"""Project 1: the functions that readers copy, the published figures, interruption and resume."""
import gc
import json
import os
import sys
import warnings
from contextlib import chdir
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import records
from notebooks import ROOT, interrupted, reuse_module, take

PROJECT = ROOT / "1_Handwritten_Digit_Recognition"
MODELS = ROOT / "models" / PROJECT.name
PICTURES = sorted(p for p in (PROJECT / "data").glob("*.*g") if p.stem != "result")
MIRROR = Path(os.environ.get("DATASETS_MIRROR", "there is none"))


def truth_of(path):
    return path.stem.replace("x", "×").replace("d", "÷")


@pytest.fixture(scope="module")
def digits():
    """The module of the reuse cells; its MODELS is relative to the project's folder."""
    with chdir(PROJECT):
        yield reuse_module(PROJECT / "inference.ipynb")


@pytest.fixture(scope="module")
def network(digits):
    return digits.load_recognizer(device="cpu")


# The network

def test_network(network):
    """Logits (N, 18), the same whatever else is in the batch, in eval mode, small enough."""
    images = torch.rand(3, 1, 28, 28)
    with torch.inference_mode():
        logits = network(images)
        assert torch.allclose(logits[:1], network(images[:1]), atol=1e-4)
    assert logits.shape == (3, 18) and not network.training
    assert sum(p.numel() for p in network.parameters()) <= 500_000


def test_missing_weights(digits, tmp_path):
    with pytest.raises(FileNotFoundError, match="train.ipynb"):
        digits.load_recognizer(tmp_path / "none.pth")
    with pytest.raises(TypeError):
        digits.load_recognizer(3)


@pytest.mark.parametrize("content", [
    b"", b"no weights", b"\x89PNG\r\n\x1a\n" + bytes(99), None, [1], {}, {"a": torch.zeros(3)},
    torch.zeros(3), nn.Linear(3, 2), "cut", "a key less", "a key more", "another shape"], ids=str)
def test_foreign_weights(digits, network, tmp_path, content):
    """A ValueError that names the file and the next step; never torch's advice."""
    path, state = tmp_path / "foreign.pth", network.state_dict()
    content = {"a key less": {name: state[name] for name in list(state)[:-1]},
               "a key more": state | {"more": torch.zeros(1)},
               "another shape": state | {"head.2.weight": torch.zeros(18, 3)},
               "cut": (MODELS / "model.pth").read_bytes()[:9000]}.get(str(content), content)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="foreign.pth.*git checkout") as error:
        digits.load_recognizer(path)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "meta", 7, []], ids=str)
def test_a_device_that_is_not_there(digits, device):
    with pytest.raises(ValueError, match="device"):
        digits.load_recognizer(device=device)


# Reading

@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_demo_pictures(digits, network, path):
    truth = truth_of(path)
    assert digits.recognize_expression(network, path) == truth
    if truth.isdigit():
        assert digits.recognize_number(network, str(path)) == truth
    if len(truth) == 1:
        digit, confidence = digits.recognize_digit(network, path)
        assert digit == int(truth) and 0.5 < confidence <= 1


def variants(picture):
    """The same picture in other forms that a reader may have."""
    grey = np.asarray(picture.convert("L"))
    yield "array", np.asarray(picture)
    yield "grey array", grey
    yield "inverted", 255 - grey
    yield "RGBA", picture.convert("RGBA")
    yield "palette", picture.quantize(64, dither=Image.Dither.NONE)
    yield "1 bit", Image.fromarray(grey > 110).convert("1")
    yield "16 bit", Image.fromarray(grey.astype(np.uint16) * 257)
    yield "12 of 16 bits", Image.fromarray(grey.astype(np.uint16) * 16)
    yield "8 of 16 bits", Image.fromarray(grey.astype(np.uint16))
    yield "8 of 32 bits", Image.fromarray(grey.astype(np.int32))
    yield "float, 0 to 1", Image.fromarray(np.float32(grey / 255))
    yield "float, 0 to 65535", Image.fromarray(np.float32(grey) * 257)
    yield "CMYK", picture.convert("CMYK")
    yield "three times as large", picture.resize((3 * picture.width, 3 * picture.height))
    yield "half as large", picture.resize((picture.width // 2, picture.height // 2))


def test_forms_of_one_picture(digits, network):
    picture = Image.open(PROJECT / "data" / "20481.jpg").convert("RGB")
    for name, image in variants(picture):
        assert digits.recognize_number(network, image) == "20481", name


def test_lying_on_its_side(digits, network, tmp_path):
    """A phone stores the sensor's picture and a note on how to turn it (EXIF)."""
    picture = Image.open(PROJECT / "data" / "20481.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "side.jpg", exif=exif)
    assert digits.recognize_number(network, tmp_path / "side.jpg") == "20481"


def test_huge_photo(digits, network, tmp_path):
    """100 megapixels."""
    picture = Image.open(PROJECT / "data" / "90210.jpg").resize((12_000, 8_400))
    picture.save(tmp_path / "huge.jpg")
    reading = digits.read_row(network, tmp_path / "huge.jpg", range(10), arithmetic=False)
    assert "".join(symbol for symbol, *_ in reading) == "90210"
    boxes = [box for _, _, box, _ in reading]    # in the file's pixels, 12,000 / 700 times as many
    assert boxes[0][0] == pytest.approx(129 * 12_000 / 700, abs=60)
    assert boxes[-1][0] + boxes[-1][2] == pytest.approx(430 * 12_000 / 700, abs=60)


def test_more_pixels_than_are_read(digits, network, tmp_path):
    """A file of some kilobytes may hold a picture of gigabytes; so may an array."""
    Image.new("L", (9_000, 9_000), 255).save(tmp_path / "huge.png")
    for image in (tmp_path / "huge.png", np.broadcast_to(np.uint8(255), (9_000, 9_000))):
        with pytest.raises(ValueError, match="9000 × 9000 pixels"):
            digits.recognize_number(network, image)


@pytest.mark.parametrize("image, error", [
    (np.full((300, 500), 255, np.uint8), ValueError),
    (np.zeros((300, 500, 3), np.uint8), ValueError),
    (np.zeros((300, 500, 4), np.uint8), ValueError),
    (np.full((1, 1), 255, np.uint8), ValueError),
    *[(np.resize(np.uint8([0] + [255] * 6), shape), ValueError) for shape in
      ((1, 900), (900, 1), (2, 5000), (10_000, 2, 3), (3000, 3))],
    *[(Image.new("L", size), ValueError) for size in ((0, 0), (5, 0), (0, 5))],
    (np.zeros((0, 5), np.uint8), ValueError),
    (np.zeros((5, 5, 2), np.uint8), ValueError),
    (np.zeros(5, np.uint8), ValueError),
    (np.zeros((5, 5)), TypeError),
    (None, TypeError),
    ("no such file.png", FileNotFoundError),
    ("a" * 5000, FileNotFoundError),
    (PROJECT / "train.ipynb", ValueError),
], ids=lambda value: (f"{value.shape}" if isinstance(value, np.ndarray) else str(value))[-40:])
def test_what_cannot_be_read(digits, network, image, error):
    for function in (digits.recognize_expression, digits.recognize_number,
                     digits.recognize_digit):
        with pytest.raises(error):
            function(network, image)


def test_broken_file(digits, network, tmp_path):
    whole = (PROJECT / "data" / "20481.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[:len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("half.jpg", "empty.jpg"):
        with pytest.raises(ValueError, match=name):
            digits.recognize_number(network, tmp_path / name)
    with Image.open(tmp_path / "half.jpg") as lazily:
        with pytest.raises(ValueError, match="cannot be read"):
            digits.recognize_number(network, lazily)


def test_postscript_is_not_run(digits, network, tmp_path):
    """Pillow goes by content, and gives PostScript, a program, to Ghostscript."""
    (tmp_path / "loop.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n"
                                       "%%EndComments\n{} loop\n", encoding="ascii")
    with pytest.raises(ValueError, match="loop.jpg"):
        digits.recognize_digit(network, tmp_path / "loop.jpg")
    with Image.open(tmp_path / "loop.jpg") as lazily, pytest.raises(ValueError, match="PostScript"):
        digits.recognize_digit(network, lazily)


@pytest.mark.parametrize("form", ["gif", "tiff"])
def test_files_are_closed(digits, network, tmp_path, form):
    """A file of several pictures too; Windows locks a file that stays open."""
    with Image.open(PROJECT / "data" / "90210.jpg") as picture:
        grey = picture.convert("L")
    grey.save(tmp_path / f"two.{form}", save_all=True, append_images=[grey])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        assert digits.recognize_number(network, tmp_path / f"two.{form}") == "90210"
        gc.collect()
    assert not [warning for warning in caught if warning.category is ResourceWarning]


def test_blank_photo(digits, network):
    """Paper with grain and a shadow, but no writing: an error, not a reading."""
    rng = np.random.default_rng(0)
    light = np.linspace(140, 230, 800)[None] + np.linspace(0, 15, 600)[:, None]
    photo = np.uint8(np.clip(light + rng.normal(0, 3, (600, 800)), 0, 255))
    with pytest.raises(ValueError, match="no "):
        digits.recognize_expression(network, photo)


def test_segment_symbols(digits, network):
    """Boxes in the picture's own pixels, left to right; pictures as MNIST has them."""
    path = PROJECT / "data" / "7+8=15.jpg"
    picture = Image.open(path)
    for found in (digits.segment_symbols(path), digits.segment_symbols(path, network)):
        assert len(found) == 6
        assert [box[0] for box, _ in found] == sorted(box[0] for box, _ in found)
        for (x, y, width, height), symbol in found:
            assert 0 <= x < x + width <= picture.width and 0 <= y < y + height <= picture.height
            assert np.asarray(picture.convert("L").crop((x, y, x + width, y + height))).min() < 110
            assert symbol.shape == (28, 28) and symbol.dtype == np.uint8 and symbol.max() > 200
            rows, columns = np.nonzero(symbol > 40)
            assert max(np.ptp(rows), np.ptp(columns)) in (18, 19, 20)


def test_reading_scales_with_the_picture(digits, network):
    """The boxes of a picture three times as large are three times as large."""
    picture = Image.open(PROJECT / "data" / "20481.jpg")
    large = picture.resize((3 * picture.width, 3 * picture.height))
    small_boxes = [box for box, _ in digits.segment_symbols(picture)]
    large_boxes = [box for box, _ in digits.segment_symbols(large)]
    assert np.allclose(3 * np.array(small_boxes), large_boxes, atol=12)


# Computing

@pytest.mark.parametrize("text, value", [
    ("12×34+65÷78", Fraction(2453, 6)), ("2+3=5", True), ("2+3=6", False), ("7", 7),
    ("2(3+4)", 14), ("(1+2)(3+4)", 21), ("(1+2)3", 9), ("-2×-3", 6), ("2--2", 4), ("+5", 5),
    ("2-3-4", -5), ("8÷4÷2", 1), ("2+3×4", 14), ("(2+3)×4", 20), ("1÷3×3=1", True),
    ("872-91=881-100=781", True), ("1=1=2", False), (" 1 + 1 ", 2), ("007", 7)])
def test_evaluate(digits, text, value):
    assert digits.evaluate_expression(text) == value
    assert type(digits.evaluate_expression(text)) is (bool if "=" in text else Fraction)


@pytest.mark.parametrize("text", ["", "1+", "×2", "(1", "1)", "()", "1 2", "1=", "=", "2**3",
                                  "a", "1.5", "__import__('os')", "(" * 5000, "(" * 200,
                                  "(" * 400, "٣+1", "²"])
def test_broken_arithmetic(digits, text):
    with pytest.raises(ValueError):
        digits.evaluate_expression(text)


def test_division_by_zero_and_types(digits):
    for error in (ZeroDivisionError, ValueError):
        with pytest.raises(error, match="division by zero"):
            digits.evaluate_expression("1÷(2-2)")
    with pytest.raises(TypeError):
        digits.evaluate_expression(5)


@pytest.mark.parametrize("value, text", [
    (Fraction(2453, 6), "408 5/6"), (Fraction(-1, 2), "-1/2"), (Fraction(-7, 2), "-3 1/2"),
    (Fraction(0), "0"), (Fraction(12), "12"), (True, "true"), (False, "false")])
def test_format(digits, value, text):
    assert digits.format_value(value) == text


def test_command_line(digits, network, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["digits.py", "data/31x5.jpg", "data/90210.jpg"])
    digits.main()
    assert capsys.readouterr().out.splitlines() == ["data/31x5.jpg: 31×5 = 155",
                                                    "data/90210.jpg: 90210 = 90210"]


# The published figures

@pytest.mark.skipif(not (MIRROR / "mnist").is_dir(), reason="DATASETS_MIRROR holds no MNIST")
def test_published_figure_on_mnist(network):
    """The stored weights give the stated figure: here on the first 2,000 test digits."""
    train = take(PROJECT / "train.ipynb", "read_idx")
    images = torch.tensor(train.read_idx(MIRROR / "mnist" / "t10k-images-idx3-ubyte.gz"))
    labels = torch.tensor(train.read_idx(MIRROR / "mnist" / "t10k-labels-idx1-ubyte.gz"))
    with torch.inference_mode():
        guesses = network(images[:2000, None].float() / 255)[:, :10].argmax(1)
    metrics = json.loads((MODELS / "metrics.json").read_text(encoding="utf-8"))
    low, high = metrics["results"]["mnist_test"]["interval"]
    share = (guesses == labels[:2000]).float().mean().item()
    assert share >= low - 0.003    # 2,000 digits have an interval of their own


# The training

@pytest.mark.parametrize("steps", range(1, 10))
def test_one_cycle_of_any_length(steps):
    """The learning rate rises and falls; of four steps, a quarter is one."""
    train = take(PROJECT / "train.ipynb", "one_cycle")
    optimizer, schedule = train.one_cycle(nn.Linear(1, 1), steps, 0.1, 0.01)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert all(0 < rate <= 0.1 + 1e-9 for rate in rates)
    assert steps < 4 or max(rates) == pytest.approx(0.1, rel=0.2) and rates[-1] < 0.01


def test_distort():
    """Other pictures, each its own way, in the same range; a share stays as it is."""
    train = take(PROJECT / "train.ipynb", "distort")
    torch.manual_seed(0)
    images = torch.rand(1, 1, 28, 28, device=train.device).repeat(200, 1, 1, 1)
    same = (train.distort(images, plain=0.5) == images).flatten(1).all(1)
    assert 70 < same.sum() < 130
    bent = train.distort(images)
    assert bent.shape == images.shape and 0 <= bent.min() and bent.max() <= 1
    assert not torch.equal(bent[0], bent[1])
    assert train.distort(images, strength=0) is images


def test_a_study_uses_every_setting_or_fails():
    train = take(PROJECT / "train.ipynb", "measure_small_training")
    train.drawn_here = {"data_seed": 0}
    known = {"seed": 0, "size": 9, "epochs": 1, "batch_size": 3, "learning_rate": 0.1, "width": 2,
             "augmentation": 0.0, "dropout": 0.0, "weight_decay": 0.0, "plain_epochs": 0}
    for odd in ({"data_seed": 1}, {"data_seed": 0, "rate": 1}, {"data_seed": 0, "change": "?"}):
        with pytest.raises(ValueError, match="measured"):
            train.measure_small_training(**known, **odd)


def tiny_training(folder, interrupt_at=None):
    """Train a tiny network for two epochs; its weights, and the history's length.

    interrupt_at: that gradient step raises KeyboardInterrupt.
    """
    train = take(PROJECT / "train.ipynb", "train_recognizer", "Recognizer", "one_cycle", "LAYOUT")
    torch.manual_seed(1)
    images = torch.randint(0, 256, (200, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 18, (200,))
    torch.manual_seed(0)
    model = train.Recognizer(width=2).to(train.device, memory_format=train.LAYOUT)
    optimizer, schedule = train.one_cycle(model, 2 * (200 // 20), 3e-3, 0.01)
    checkpoint = records.Checkpoint(folder, {"tiny": 1}, {
        "model": model, "optimizer": optimizer, "schedule": schedule})
    with interrupted(train, "optimizer_step", interrupt_at):
        history = train.train_recognizer(
            model, optimizer, schedule, images, labels, 2, 20, 0, {"strength": 1.0},
            checkpoint=checkpoint, save_every=0.0, report=lambda line: None)
    return model.state_dict(), len(history)


@pytest.mark.parametrize("interrupt_at", [4, 15])
def test_interrupted_training_ends_the_same(tmp_path, interrupt_at):
    """Stopped in the first or the second epoch and started again: the same weights, bit for bit."""
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, epochs = tiny_training(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tiny_training(tmp_path / "broken", interrupt_at)
    resumed, resumed_epochs = tiny_training(tmp_path / "broken")
    assert epochs == resumed_epochs == 2
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
