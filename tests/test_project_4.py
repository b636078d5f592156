"""Project 4: the functions that readers copy, what project 1 reads in their pictures, the
published figures; the training: its parts, kill and resume, colour."""
import gzip
import io
import json
import os
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import small_data
import start
from notebooks import ROOT, interrupted, reuse_module, take

PROJECT = ROOT / "4_GAN_Image_Generator"
MODELS = ROOT / "models" / PROJECT.name
MIRROR = Path(os.environ.get("DATASETS_MIRROR", "there is none"))
FIGURES = json.loads((MODELS / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def gan():
    """The module of the reuse cells; its MODELS is relative to the project's folder."""
    with chdir(PROJECT):
        yield reuse_module(PROJECT / "inference.ipynb")


@pytest.fixture(scope="module")
def generator(gan):
    return gan.load_generator(device="cpu")


@pytest.fixture(scope="module")
def project_1():
    """Project 1's functions and its network, which judges digits here."""
    path = ROOT / "1_Handwritten_Digit_Recognition" / "inference.ipynb"
    with chdir(path.parent):
        module = reuse_module(path)
        module.reader = module.load_recognizer(device="cpu")
        yield module


def tiny(gan, **sizes):
    """A generator of another size, untrained."""
    torch.manual_seed(0)
    return gan.Generator(**{"width": 4} | sizes).eval()


# The network

def test_generator(generator):
    """Pictures in [0, 1], the same whatever else is in the batch, in eval mode."""
    noise, labels = torch.randn(5, 64), torch.tensor([0, 1, 9, 9, 4])
    with torch.inference_mode():
        images = generator(noise, labels)
        assert torch.allclose(images[:1], generator(noise[:1], labels[:1]), atol=1e-5)
    assert images.shape == (5, 1, 28, 28) and 0 <= images.min() and images.max() <= 1
    assert not generator.training


@pytest.mark.parametrize("name", ["model.pth", "fashionmnist.pth"])
def test_weights(gan, name):
    """A plain state_dict, float32 but for batch normalisation's counters, at most 8 MB."""
    state = torch.load(MODELS / name, map_location="cpu", weights_only=True)
    wanted = gan.build_generator(state).state_dict()
    assert {key: (value.shape, value.dtype) for key, value in state.items()} == {
        key: (value.shape, value.dtype) for key, value in wanted.items()}
    counters = {key for key, value in state.items() if value.dtype != torch.float32}
    assert all(key.endswith("num_batches_tracked") for key in counters)
    assert (MODELS / name).stat().st_size <= 8e6


@pytest.mark.parametrize("sizes", [{}, {"width": 6}, {"noise_size": 16}, {"classes": 3},
                                   {"channels": 3}, {"image_size": 32}], ids=str)
def test_generators_of_any_size(gan, tmp_path, sizes):
    """What a reader trained with other parameters loads and draws too."""
    wanted = {"width": 4, "channels": 1, "image_size": 28, "classes": 10} | sizes
    torch.save(tiny(gan, **sizes).state_dict(), tmp_path / "my_model.pth")
    generator = gan.load_generator(tmp_path / "my_model.pth", "cpu")
    images = gan.generate_digits(generator, [0, 2], 1)
    assert images.shape == (2, wanted["channels"], wanted["image_size"], wanted["image_size"])
    assert gan.generate_number(generator, "012", 1).mode == "L"
    with pytest.raises(ValueError, match=f"want 0 to {wanted['classes'] - 1}"):
        gan.generate_digits(generator, [wanted["classes"]])


def odd_weights(generator):
    """What a file may hold that is no weights file of this network: bytes, or what is saved."""
    state = generator.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    first, *others = state
    return {"empty": b"", "text": b"these are no weights", "cut": file.getvalue()[:90_000],
            "random": bytes(range(256)) * 99, "{}": {}, "list": [state], "number": 3,
            "foreign": {"a": torch.zeros(3)},
            "one key less": {name: state[name] for name in others},
            "one more": state | {"more": torch.zeros(1)},
            "other shape": state | {"up2.bias": torch.zeros(3)},
            "no tensor": state | {first: "text"}, "nested": {"state_dict": state},
            "whole network": nn.Linear(2, 2)}


def test_missing_and_foreign_weights(gan, generator, tmp_path):
    for missing in (tmp_path / "none.pth", tmp_path, ""):
        with pytest.raises(FileNotFoundError, match="train.ipynb"):
            gan.load_generator(missing)
    recognizer = ROOT / "models" / "1_Handwritten_Digit_Recognition" / "model.pth"
    for name, content in (odd_weights(generator) | {"digits": recognizer.read_bytes()}).items():
        path = tmp_path / f"{name}.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(ValueError, match="no weights of this network") as caught:
            gan.load_generator(path)
        assert str(path) in str(caught.value) and "weights_only" not in str(caught.value)
    for no_path in (3, None, [MODELS]):
        with pytest.raises(TypeError):
            gan.load_generator(no_path)


@pytest.mark.parametrize("device", ["gpu", "", "meta", "cuda:99", -1, 1.5, []], ids=str)
def test_odd_devices(gan, device):
    with pytest.raises(ValueError, match="device"):
        gan.load_generator(device=device)


# Digits as a tensor

def test_digits(gan, generator):
    digits = [3, 1, 4, 1, 5]
    images = gan.generate_digits(generator, digits, 7)
    assert images.shape == (5, 1, 28, 28) and images.dtype == torch.float32
    assert 0 <= images.min() and images.max() <= 1 and images.device.type == "cpu"
    assert not images.requires_grad and not torch.equal(images[1], images[3])
    for same in (tuple(digits), np.array(digits), np.uint8(digits), torch.tensor(digits),
                 [np.int64(digit) for digit in digits]):
        assert torch.equal(gan.generate_digits(generator, same, 7), images)
    assert torch.equal(gan.generate_digits(generator, range(3), 7),
                       gan.generate_digits(generator, [0, 1, 2], 7))


def test_seeds(gan, generator):
    """One seed, one answer, also where more digits follow; no seed, another one each time."""
    one, other = (gan.generate_digits(generator, [8, 8], seed) for seed in (0, 1))
    assert torch.equal(one, gan.generate_digits(generator, [8, 8], np.int64(0)))
    assert not torch.equal(one, other)
    for limit in (None, 1.5):
        two, three = (gan.generate_digits(generator, wish, 0, limit)
                      for wish in ([8, 8], [8, 8, 5]))
        assert torch.allclose(two, three[:2], atol=1e-5)
    assert not torch.equal(gan.generate_digits(generator, [8]),
                           gan.generate_digits(generator, [8]))
    gan.generate_digits(generator, [8], 2 ** 63 - 1)


def test_nobody_elses_random_numbers_are_used(gan, generator):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    gan.generate_digits(generator, [1, 2])
    gan.generate_digits(generator, [1, 2], 3, 1.0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("digits, error", [
    ([], ValueError), ((), ValueError), (range(0), ValueError), (torch.tensor([]), ValueError),
    ([10], ValueError), ([-1], ValueError), ([3, 99], ValueError), ([10 ** 30], ValueError),
    (7, TypeError), (np.int64(7), TypeError), (torch.tensor(7), TypeError), ("7", TypeError),
    (b"7", TypeError), (None, TypeError), ({1, 2}, TypeError), ({1: 2}, TypeError),
    ([True], TypeError), ([1, False], TypeError), (np.array([True]), TypeError),
    ([1.0], TypeError), ([2.9], TypeError), (np.array([1.0]), TypeError), (["1"], TypeError),
    ([None], TypeError), ([[1, 2]], TypeError), (torch.ones(2, 2).long(), TypeError),
    (torch.tensor([1.5]), TypeError), (7.0, TypeError), (True, TypeError),
    (list("x" * 999), TypeError)], ids=lambda value: str(value)[:20])
def test_digits_that_are_none(gan, generator, digits, error):
    with pytest.raises(error, match="got .*want") as caught:
        gan.generate_digits(generator, digits)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("seed, error", [
    (-1, ValueError), (2 ** 63, ValueError), (10 ** 40, ValueError), (1.0, TypeError),
    ("1", TypeError), (True, TypeError), ([1], TypeError), (np.float64(3), TypeError)])
def test_seeds_that_are_none(gan, generator, seed, error):
    for draw, wish in ((gan.generate_digits, [1]), (gan.generate_number, "1")):
        with pytest.raises(error, match="got seed .*want"):
            draw(generator, wish, seed)


def test_truncation(gan, generator):
    """The noise keeps to its limit, and a wide one is as good as none."""
    for limit in (0.1, 1, np.float32(0.5), np.int64(2)):
        noise = gan.draw_noise(500, 64, 0, limit)
        assert 0.9 * limit < noise.abs().max() <= limit and abs(noise.mean()) < 0.1 * limit
    assert gan.draw_noise(500, 64, 0, 50).std() == pytest.approx(1, abs=0.02)
    near, far = (gan.generate_digits(generator, 50 * [3], 0, limit) for limit in (0.1, None))
    assert near.std(0).mean() < 0.5 * far.std(0).mean()


@pytest.mark.parametrize("truncation, error", [
    (0, ValueError), (-1, ValueError), (float("inf"), ValueError), (float("nan"), ValueError),
    ("1", TypeError), (True, TypeError), ([1.0], TypeError), (1j, TypeError)], ids=str)
def test_truncations_that_are_none(gan, generator, truncation, error):
    with pytest.raises(error, match="got truncation .*want"):
        gan.generate_digits(generator, [1], 0, truncation)


def test_memory_is_that_of_the_answer(gan, generator):
    """The network computes 250 pictures at most, whatever the number of digits."""
    batches = []
    watched = generator.start.register_forward_hook(
        lambda layer, inputs, output: batches.append(len(output)))
    images = gan.generate_digits(generator, 70 * list(range(10)), 0)
    watched.remove()
    assert sum(batches) == len(images) == 700 and max(batches) <= 250


# A number as a picture

def test_number(gan, generator):
    """Grey, dark ink on white, as high as promised; the same for one seed."""
    picture = gan.generate_number(generator, "20260101", 4)
    pixels = np.asarray(picture)
    assert (picture.mode, picture.height) == ("L", 136) and picture.width > 300
    assert pixels[:4].min() == 255 == pixels[:, :8].min() and pixels.min() < 60
    assert np.array_equal(pixels, np.asarray(gan.generate_number(generator, "20260101", 4)))
    assert gan.generate_number(generator, "0" * 40).width > picture.width


def test_digits_of_a_number_keep_apart(gan, generator):
    """White columns between any two, wherever the ink of a digit reaches."""
    def bars(generator, digits, seed, truncation):
        images = torch.zeros(len(digits), 1, 28, 28)
        images[:, :, 4:24] = (torch.arange(28) < torch.tensor(digits)[:, None, None, None]) * 1.0
        return images

    class Module:
        generate_digits = staticmethod(bars)

    before, gan.generate_digits = gan.generate_digits, Module.generate_digits
    try:
        pixels = np.asarray(gan.generate_number(generator, "5298", 0))
        empty = np.asarray(gan.generate_number(generator, "0", 0))    # no ink at all
    finally:
        gan.generate_digits = before
    dark = (pixels < 128).any(0).astype(int)
    starts, ends = np.flatnonzero(np.diff(dark) == 1), np.flatnonzero(np.diff(dark) == -1)
    assert [round((end - begin) / 4) for begin, end in zip(starts, ends)] == [5, 2, 9, 8]
    assert empty.min() == 255 and empty.shape == (136, 4 * (28 + 12))


@pytest.mark.parametrize("number, error", [
    ("", ValueError), ("12a", ValueError), ("1 2", ValueError), ("-1", ValueError),
    ("1.5", ValueError), ("²", ValueError), ("٣", ValueError), ("1\n", ValueError),
    (2026, TypeError), (2.5, TypeError), (None, TypeError), (True, TypeError), (b"12", TypeError),
    (["1", "2"], TypeError)], ids=repr)
def test_numbers_that_are_none(gan, generator, number, error):
    with pytest.raises(error, match="got .*want"):
        gan.generate_number(generator, number)


# What project 1 reads

def logits_of(project_1, images):
    with torch.inference_mode():
        return torch.cat([project_1.reader(part) for part in images.split(500)])[:, :10]


def test_published_share_that_is_read_as_asked(gan, generator, project_1):
    """The stored weights give the stated figure: 2,000 digits, each digit alone as well."""
    labels = torch.arange(2000) % 10
    right = logits_of(project_1, gan.generate_digits(generator, labels, 0)).argmax(1) == labels
    published = FIGURES["results"]["read_as_asked"]
    assert right.float().mean() >= published["interval"][0] - 0.005
    assert min(right[labels == digit].float().mean() for digit in range(10)) > 0.95


def test_numbers_are_read_back(gan, generator, project_1):
    numbers = [f"{value:06}" for value in np.random.default_rng(0).integers(0, 10 ** 6, 20)]
    readings = [project_1.recognize_number(project_1.reader, gan.generate_number(
        generator, text, k)) for k, text in enumerate(numbers)]
    assert sum(map(str.__eq__, readings, numbers)) >= 16


def test_speed(gan, generator):
    """The promise is 2,000 digits a second on two cores; machines that run tests share theirs."""
    seconds = []
    for seed in range(3):
        begin = time.perf_counter()
        gan.generate_digits(generator, 50 * list(range(10)), seed)
        seconds.append(time.perf_counter() - begin)
    assert 500 / min(seconds) > 300


# The command line

def test_export_draws_a_picture(tmp_path):
    start.export(4, tmp_path / "alone")
    here = tmp_path / "here"
    here.mkdir()
    result = subprocess.run([sys.executable, tmp_path / "alone" / "gan.py", "20260101", "out.png",
                             "--seed", "4", "--truncation", "1.5"], cwd=here,
                            capture_output=True, encoding="utf-8")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with Image.open(here / "out.png") as picture:
        assert picture.size[1] == 136


@pytest.mark.parametrize("wrong", ["12a b.png", "12 missing/b.png", "12 b.nothing",
                                   "12 b.png --seed -1", "12 b.png --truncation 0"])
def test_command_line_says_it_in_one_line(gan, monkeypatch, tmp_path, wrong):
    number, file, *options = wrong.split()
    monkeypatch.setattr(sys, "argv", ["gan.py", number, str(tmp_path / file), *options])
    with pytest.raises(SystemExit) as end:
        gan.main()
    assert end.value.code.startswith("gan.py: ") and "\n" not in end.value.code
    assert list(tmp_path.iterdir()) == []


# What the notebook shows

@pytest.fixture(scope="module")
def pages(gan, generator, project_1):
    """Functions of inference.ipynb that show things."""
    module = take(PROJECT / "inference.ipynb", "on_arc", "walk", "tiled", "variety", "show_digit",
                  "knobs", "measure_reader", "train_reader", "features_of", "mnist_digits")
    module.generator, module.project_1, module.reader = generator, project_1, project_1.reader
    module.device = torch.device("cpu")
    return module


def test_arc(pages):
    """It begins and ends where it should, keeps the length, and the way comes back."""
    start, end = torch.randn(2, 64)
    end = end * start.norm() / end.norm()
    assert torch.allclose(pages.on_arc(start, end, 0.0), start, atol=1e-5)
    assert torch.allclose(pages.on_arc(start, end, 1.0), end, atol=1e-5)
    for share in (0.2, 0.5, 0.9):
        length = pages.on_arc(start, end, share).norm().item()
        assert length == pytest.approx(start.norm().item(), rel=1e-4)
    way = pages.walk(torch.stack([start, end]), 5)
    assert way.shape == (10, 64) and torch.allclose(way[5], end, atol=1e-5)
    steps = (way - way.roll(1, 0)).norm(dim=1)
    assert steps.max() < 1.2 * steps.min()    # the last step leads to the first place


def test_tiles(pages):
    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 2, 2)
    assert pages.tiled(images, 3).tolist() == 2 * [[0, 0, 1, 1, 2, 2]] + 2 * [[3, 3, 4, 4, 5, 5]]


def test_variety(pages):
    """The mean distance within a digit: what lies between digits does not count."""
    labels = torch.arange(40) % 10
    features = 100.0 * labels[:, None].expand(40, 3)
    assert pages.variety(features, labels) == 0
    moved = features.clone()
    moved[:20, 0] += 3
    assert pages.variety(moved, labels) == pytest.approx(3 * 4 / 6)


def test_knobs(pages, monkeypatch):
    """Each slider calls the plain function with its value; that draws and reads a digit."""
    monkeypatch.setattr(pages.plt, "show", lambda: None)
    pages.show_digit(3, 5, 1.0)
    title = pages.plt.gca().get_title()
    pages.plt.close("all")
    assert title.startswith("digit 3, seed 5, limit 1.0\nread as ")
    asked = []
    monkeypatch.setattr(pages, "show_digit", lambda *values: asked.append(values))
    for place, value in enumerate((3, 5, 0.5)):
        pages.knobs().children[place].value = value
    assert asked == [(3, 4, 2.0), (7, 5, 2.0), (7, 4, 0.5)]


def test_readers_are_measured(pages, generator, tmp_path, monkeypatch):
    """On small data: pictures and labels fit, each setting counts, and the seeds differ."""
    import download
    small_data.mnist(tmp_path)
    monkeypatch.setattr(download, "fetch", lambda name: tmp_path)
    images, labels = pages.mnist_digits("t10k")
    raw = gzip.decompress((tmp_path / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert images.shape == (200, 1, 28, 28) and len(labels) == 200
    assert round(255 * images[-1, 0, -1, -1].item()) == raw[-1] and labels.dtype == torch.int64
    recipe = {"steps": 20, "width": 4, "batch_size": 32, "learning_rate": 1e-2}
    real = pages.measure_reader(0, source="MNIST", count=200, **recipe)
    assert real == pages.measure_reader(0, source="MNIST", count=200, **recipe)
    drawn = pages.measure_reader(0, source="0123abcd", truncation=1.0, count=200, **recipe)
    assert real["accuracy"] > 0.3 and 0 <= drawn["accuracy"] <= 1
    for wrong in ({"epochs": 3}, {"truncation": 1.0}):    # real digits know no limit
        with pytest.raises(TypeError, match=next(iter(wrong))):
            pages.measure_reader(0, source="MNIST", count=50, **recipe | wrong)


def test_recorded_readers_learnt_from_these_weights():
    """The study's figures belong to model.pth."""
    rows = FIGURES["studies"]["training data"]
    sources = {row["settings"]["source"] for row in rows.values()}
    assert sources == {"MNIST", FIGURES["weights_sha256"][:8]}
    for name, row in rows.items():
        result = FIGURES["results"][f"trained_on_{name}"]
        assert [result["value"]] == pytest.approx(row["values"]["accuracy"])


# The training

@pytest.fixture(scope="module")
def lesson():
    return take(PROJECT / "train.ipynb", "Generator", "Critic", "train_gan", "slopes", "between",
                "gradient_penalty", "critic_loss", "critic_step", "frechet", "covered",
                "then_falling", "frame_steps", "generate")


SIZES = [{}, {"channels": 3, "image_size": 32}, {"image_size": 32}, {"channels": 3}]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_networks_of_any_size(lesson, sizes):
    """What the generator draws, the critic takes: grey or in colour, 28 or 32 px."""
    labels = torch.tensor([0, 3, 9])
    pictures = lesson.Generator(width=4, **sizes)(torch.randn(3, 64), labels)
    wanted = {"channels": 1, "image_size": 28} | sizes
    assert pictures.shape == (3, wanted["channels"], *2 * [wanted["image_size"]])
    for spectral in (True, False):
        assert lesson.Critic(width=4, spectral=spectral, **sizes)(pictures, labels).shape == (3,)


def test_spectral_normalisation_can_be_switched_off(lesson):
    """On, no convolution stretches a vector; off, the weights are left alone."""
    for spectral in (True, False):
        critic = lesson.Critic(width=4, spectral=spectral)
        layers = [layer for layer in critic.features if isinstance(layer, nn.Conv2d)]
        with torch.no_grad():
            for layer in layers:
                (layer.parametrizations.weight.original if spectral else layer.weight).mul_(50)
            for _ in range(30):    # a step of the power iteration each
                critic(torch.rand(2, 1, 28, 28), torch.tensor([0, 1]))
        critic.eval()
        largest = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2) for layer in layers]
        assert len(layers) == 3
        assert max(largest) < 1.1 if spectral else min(largest) > 5


def test_slopes_and_penalty(lesson):
    """For critics whose gradient is known: of each picture, over all of its pixels."""
    def critic(pictures, labels):    # gradient 1, 2, 3, … at each of 4 pixels: length 2, 4, 6
        return (labels + 1) * pictures.flatten(1).sum(1)

    real, fake, labels = torch.rand(3, 1, 2, 2), torch.rand(3, 1, 2, 2), torch.arange(3)
    assert lesson.slopes(critic, real, labels).tolist() == pytest.approx([2, 4, 6])
    penalty = lesson.gradient_penalty(critic, real, fake, labels)
    assert penalty.item() == pytest.approx((1 + 9 + 25) / 3)
    share = torch.tensor([1.0, 0.0, 0.5])
    middle = lesson.between(real, fake, share)
    assert torch.equal(middle[0], real[0]) and torch.equal(middle[1], fake[1])
    assert torch.allclose(middle[2], (real[2] + fake[2]) / 2)
    weights = lesson.Critic(width=4)
    lesson.gradient_penalty(weights, torch.rand(2, 1, 28, 28), torch.rand(2, 1, 28, 28),
                            torch.tensor([1, 2])).backward()    # it reaches the weights
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in weights.parameters())


def test_frechet(lesson):
    """Zero for the same set; the known value for two normal distributions."""
    torch.manual_seed(0)
    one, other = torch.randn(2, 20_000, 4).double()
    assert lesson.frechet(one, one) == pytest.approx(0, abs=1e-6)
    shift = torch.tensor([3.0, 0, 0, 0])
    assert lesson.frechet(one, one + shift) == pytest.approx(9, rel=1e-3)
    assert lesson.frechet(one, 2 * other) == pytest.approx(4, rel=0.05)    # (2 - 1)² · 4
    assert lesson.frechet(one, other) == pytest.approx(lesson.frechet(other, one), abs=1e-6)


def test_covered(lesson):
    """The share of the points that lie among the centres."""
    centres = torch.stack([torch.arange(20.0), torch.zeros(20)], 1)
    points = torch.tensor([[3.5, 0.0], [10.0, 2.0], [10.0, 99.0], [500.0, 0.0]])
    assert lesson.covered(centres, points) == 0.5
    assert lesson.covered(centres, centres) == 1


RECIPE = {"steps": 6, "batch_size": 4, "critic_steps": 2, "betas": [0.0, 0.9],
          "learning_rate": 1e-3, "falling": 0.5, "average": 0.9, "penalty": 10.0,
          "penalty_every": 2}


def tiny_training(lesson, folder, stop_at=None, sizes=(), **changes):
    """Six steps: the averaged generator's weights, and the history.

    stop_at: that step of the critic raises KeyboardInterrupt.
    """
    sizes, recipe = dict(sizes), RECIPE | changes
    torch.manual_seed(1)
    shape = sizes.get("channels", 1), *2 * [sizes.get("image_size", 28)]
    images = torch.randint(0, 256, (30, *shape), dtype=torch.uint8)
    torch.manual_seed(0)
    generator, critic = lesson.Generator(width=4, **sizes), lesson.Critic(width=4, **sizes)
    lesson.SAVE_EVERY = 0.0
    with interrupted(lesson, "critic_step", stop_at):
        averaged, history, frames = lesson.train_gan(
            generator, critic, images, torch.arange(30) % 10, recipe, settings=recipe,
            folder=folder, report=lambda line: None)
    return averaged.state_dict(), history, frames


@pytest.mark.parametrize("stop_at", [2, 9])
def test_interrupted_training_ends_the_same(lesson, tmp_path, stop_at):
    """Stopped in any step and started again: the same weights and frames, bit for bit."""
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, history, frames = tiny_training(lesson, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tiny_training(lesson, tmp_path / "broken", stop_at)
    resumed, rows, again = tiny_training(lesson, tmp_path / "broken")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [row["distance"] for row in history] == [row["distance"] for row in rows]
    assert all(map(torch.equal, frames, again)) and len(frames) == len(again)


def test_training_in_colour(lesson, tmp_path):
    """The same code on pictures of three channels and 32 px: weights move, frames have colour."""
    sizes = {"channels": 3, "image_size": 32}
    weights, history, frames = tiny_training(lesson, tmp_path, sizes=sizes.items())
    assert frames[-1].shape[1:] == (3, 32, 32) and np.isfinite(history[-1]["distance"])
    torch.manual_seed(0)
    before = lesson.Generator(width=4, **sizes).state_dict()
    assert not torch.equal(before["up2.weight"], weights["up2.weight"])


def test_other_settings_leave_a_checkpoint_alone(lesson, tmp_path, capsys):
    (tmp_path / "whole").mkdir()
    whole = tiny_training(lesson, tmp_path / "whole")[0]
    with pytest.raises(KeyboardInterrupt):
        tiny_training(lesson, tmp_path, 7)
    other = tiny_training(lesson, tmp_path, penalty=0.0)[0]
    capsys.readouterr()
    resumed = tiny_training(lesson, tmp_path)[0]
    assert capsys.readouterr().out.startswith("goes on from")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not torch.equal(other["up2.weight"], whole["up2.weight"])


def test_foreign_checkpoint_is_put_aside(lesson, tmp_path, capsys):
    tiny_training(lesson, tmp_path)
    checkpoint, = tmp_path.glob("my_checkpoint_*.pth")
    checkpoint.write_bytes(b"not a checkpoint")
    tiny_training(lesson, tmp_path)
    assert (tmp_path / f"{checkpoint.name}.broken").read_bytes() == b"not a checkpoint"
    assert "put aside" in capsys.readouterr().out


def test_generators_draw_alike(lesson, gan, generator):
    """train.ipynb's way to draw and the one to copy give the same pictures for a seed."""
    labels = torch.arange(20) % 10
    lesson.device = torch.device("cpu")
    assert torch.allclose(lesson.generate(generator, labels, 3),
                          gan.generate_digits(generator, labels, 3, None), atol=1e-5)
