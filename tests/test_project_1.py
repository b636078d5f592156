"""Project 1: the functions that readers copy, the published figures, kill and resume."""
import json
import os
import sys
from contextlib import chdir
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from notebooks import ROOT, reuse_module, take

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


def test_missing_and_foreign_weights(digits, tmp_path):
    with pytest.raises(FileNotFoundError, match="train.ipynb"):
        digits.load_recognizer(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "foreign.pth")
    with pytest.raises(RuntimeError):
        digits.load_recognizer(tmp_path / "foreign.pth")


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
    assert digits.recognize_number(network, tmp_path / "huge.jpg") == "90210"


@pytest.mark.parametrize("image, error", [
    (np.full((300, 500), 255, np.uint8), ValueError),
    (np.zeros((300, 500, 3), np.uint8), ValueError),
    (np.zeros((300, 500, 4), np.uint8), ValueError),
    (np.full((1, 1), 255, np.uint8), ValueError),
    (np.zeros((0, 5), np.uint8), ValueError),
    (np.zeros((5, 5, 2), np.uint8), ValueError),
    (np.zeros(5, np.uint8), ValueError),
    (np.zeros((5, 5)), TypeError),
    (None, TypeError),
    ("no such file.png", FileNotFoundError),
    (PROJECT / "train.ipynb", ValueError),
], ids=str)
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
                                  "a", "1.5", "__import__('os')", "(" * 5000, "(" * 200, "(" * 400, "٣+1", "²"])
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


# Kill and resume

def tiny_training(folder, interrupt_at=None):
    """Train a tiny network for two epochs; its weights, and the history's length.

    interrupt_at: that gradient step raises KeyboardInterrupt, as the stop button does.
    """
    train = take(PROJECT / "train.ipynb", "train", "Recognizer", "one_cycle", "LAYOUT")
    torch.manual_seed(1)
    images = torch.randint(0, 256, (200, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 18, (200,))
    torch.manual_seed(0)
    model = train.Recognizer(width=2).to(memory_format=train.LAYOUT)
    optimizer, schedule = train.one_cycle(model, 2 * (200 // 20), 3e-3, 0.01)
    steps, step = [], optimizer.step
    if interrupt_at is not None:
        def stopping_step(*arguments):
            steps.append(1)
            if len(steps) == interrupt_at:
                raise KeyboardInterrupt
            return step(*arguments)
        optimizer.step = stopping_step
    history = train.train(model, optimizer, schedule, images, labels, 2, 20, 0,
                          {"strength": 1.0}, checkpoint=folder / "training.pth",
                          settings={"tiny": 1}, save_every=0.0, report=lambda line: None)
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


def test_foreign_checkpoint_is_put_aside(tmp_path, capsys):
    (tmp_path / "training.pth").write_bytes(b"not a checkpoint")
    tiny_training(tmp_path)
    assert (tmp_path / "training.pth.broken").read_bytes() == b"not a checkpoint"
    assert "put aside" in capsys.readouterr().out
