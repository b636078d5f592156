"""Project 6: the attacks that readers copy: values, bounds, errors and odd input; the demo photos
and their files; the same success as torchattacks'."""
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
from contextlib import chdir
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import start
from notebooks import ROOT, reuse_module, take

PROJECT = ROOT / "6_Adversarial_Attack"
PHOTOS = sorted((ROOT / "2_Cat_Dog_Image_Classification" / "data").glob("*_*.jpg"))
MIRROR = Path(os.environ.get("DATASETS_MIRROR", "there is none"))


@pytest.fixture(scope="module")
def attack():
    """The module of the reuse cells; its MODELS is relative to the project's folder."""
    with chdir(PROJECT):
        yield reuse_module(PROJECT / "inference.ipynb")


@pytest.fixture(scope="module")
def network(attack):
    return attack.load_classifier(device="cpu")


@pytest.fixture(scope="module")
def demo(attack):
    """The demo photos (13, 3, 128, 128) and their classes."""
    return (torch.stack([attack.image_of(path) for path in PHOTOS]),
            torch.tensor([int(path.name.startswith("dog")) for path in PHOTOS]))


class Linear(nn.Module):
    """Two pixels, two classes, weights that one can follow by hand: the score of class 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -1.5]))

    def forward(self, images):
        score = images.flatten(1) @ self.weight
        return torch.stack([torch.zeros_like(score), score], 1)


@pytest.fixture
def small():
    """A linear model in eval mode, its images (2, 1, 1, 2), their classes."""
    images = torch.tensor([[0.6, 0.5], [0.9, 0.05]])[:, None, None]
    return Linear().eval(), images, torch.tensor([0, 1])


# Values

def test_fgsm_by_hand(attack, small):
    """Each pixel moves by epsilon towards a higher loss, and no further than 0 and 1."""
    model, images, labels = small
    attacked = attack.fgsm(model, images, labels, 0.2)
    wanted = torch.tensor([[0.8, 0.3], [0.7, 0.25]])
    assert torch.allclose(attacked.flatten(1), wanted, atol=1e-6)
    attacked = attack.fgsm(model, images, 1 - labels, 0.2)
    assert torch.allclose(attacked.flatten(1), torch.tensor([[0.4, 0.7], [1.0, 0]]), atol=1e-6)


def test_pgd_by_hand(attack, small):
    """On a linear model PGD ends in FGSM's corner, whatever its start; a target is the way to
    it, which with two classes is the way from the other."""
    model, images, labels = small
    corner = attack.fgsm(model, images, labels, 0.2)
    for keywords in ({"random_start": False}, {"seed": 0}, {"seed": 1}):
        attacked = attack.pgd(model, images, labels, 0.2, 0.05, 9, **keywords)
        assert torch.allclose(attacked, corner, atol=1e-6)
    aimed = attack.pgd(model, images, 1 - labels, 0.2, 0.05, 9, targeted=True, seed=0)
    assert torch.allclose(aimed, corner, atol=1e-6)


def test_batches_and_bounds(attack, network, demo):
    """A photo's attack does not depend on its neighbours; no change exceeds epsilon."""
    images, labels = demo[0][:3, :, :64, :64], demo[1][:3]
    for size in (0, 0.5 / 255, 8 / 255):
        for attacked in (attack.fgsm(network, images, labels, size),
                         attack.pgd(network, images, labels, size, size / 4, 3, seed=0)):
            assert (attacked - images).abs().max() <= size + 1e-6
            assert 0 <= attacked.min() and attacked.max() <= 1
            assert attacked.shape == images.shape and attacked.dtype == images.dtype
    whole = attack.fgsm(network, images, labels, 8 / 255)
    alone = torch.cat([attack.fgsm(network, images[k:k + 1], labels[k:k + 1], 8 / 255)
                       for k in range(3)])
    assert (whole != alone).float().mean() < 0.001    # signs of gradients that are nearly 0
    assert torch.equal(attack.fgsm(network, images, labels, 0), images)


def test_nothing_is_left_behind(attack, network, demo):
    """Neither gradients nor a changed input, and the same seed gives the same picture."""
    images, labels = demo[0][:2, :, :64, :64], demo[1][:2]
    before = images.clone()
    first = attack.pgd(network, images, labels, 8 / 255, 2 / 255, 2, seed=3)
    assert torch.equal(first, attack.pgd(network, images, labels, 8 / 255, 2 / 255, 2, seed=3))
    assert not torch.equal(first, attack.pgd(network, images, labels, 8 / 255, 2 / 255, 2, seed=4))
    assert torch.equal(images, before) and not images.requires_grad and not first.requires_grad
    assert all(weight.grad is None for weight in network.parameters())
    assert len(attack.pgd(network, images[:0], labels[:0], 0.1, 0.1, 1)) == 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_switched_off(attack, small, mode):
    model, images, labels = small
    wanted = attack.fgsm(model, images, labels, 0.2)
    with mode():
        images = images.clone()
        assert torch.equal(attack.fgsm(model, images, labels, 0.2), wanted)
        assert torch.allclose(attack.pgd(model, images, labels, 0.2, 0.1, 5), wanted, atol=1e-6)
    assert torch.equal(attack.fgsm(model, images, labels, 0.2), wanted)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int32, torch.int64], ids=str)
def test_labels_of_any_whole_type(attack, small, kind):
    model, images, labels = small
    assert torch.equal(attack.fgsm(model, images, labels.to(kind), 0.1),
                       attack.fgsm(model, images, labels, 0.1))


# Errors

WRONG = [
    ("images", lambda x, y: ((x * 255).byte(), y), TypeError, "uint8"),
    ("an array", lambda x, y: (x.numpy(), y), TypeError, "want torch.Tensor"),
    ("a list", lambda x, y: (x, [0, 1]), TypeError, "labels of type list"),
    ("float labels", lambda x, y: (x, y.float()), TypeError, "whole numbers"),
    ("bool labels", lambda x, y: (x, y.bool()), TypeError, "whole numbers"),
    ("no batch", lambda x, y: (x[0], y[:1]), ValueError, "want .N, C, H, W."),
    ("a label less", lambda x, y: (x, y[:1]), ValueError, "want .N, C, H, W."),
    ("one-hot", lambda x, y: (x, torch.eye(2).long()), ValueError, r"\(2, 2\)"),
    ("0 to 255", lambda x, y: (x * 255, y), ValueError, "outside"),
    ("normalised", lambda x, y: (x - 0.6, y), ValueError, "outside"),
    ("NaN", lambda x, y: (x * float("nan"), y), ValueError, "outside"),
    ("label 2", lambda x, y: (x, y + 1), ValueError, "want 0 to 1: the model has 2"),
    ("label -1", lambda x, y: (x, y - 1), ValueError, "want 0 to 1"),
    ("label -100", lambda x, y: (x, y * -100), ValueError, "want 0 to 1"),
]


@pytest.mark.parametrize("change, kind, text", [row[1:] for row in WRONG],
                         ids=[row[0] for row in WRONG])
def test_wrong_images_and_labels(attack, small, change, kind, text):
    model, images, labels = small
    with pytest.raises(kind, match=text):
        attack.fgsm(model, *change(images, labels), 0.1)
    with pytest.raises(kind, match=text):
        attack.pgd(model, *change(images, labels), 0.1, 0.1, 1)


@pytest.mark.parametrize("size", [-0.1, 8, float("nan"), float("inf"), "a", None])
def test_wrong_sizes(attack, small, size):
    """8 instead of 8/255 is the usual slip."""
    kind = ValueError if isinstance(size, (int, float)) else TypeError
    with pytest.raises(kind, match="to 1"):
        attack.fgsm(*small, size)
    for sizes in ((size, 0.1), (0.1, size)):
        with pytest.raises(kind, match="to 1"):
            attack.pgd(*small, *sizes, 1)


def test_wrong_steps_and_seeds(attack, small):
    with pytest.raises(ValueError, match="steps -1"):
        attack.pgd(*small, 0.1, 0.1, -1)
    for keywords in ({"steps": 1.5}, {"steps": "a"}, {"steps": 1, "seed": 1.5},
                     {"steps": 1, "seed": "a"}):
        with pytest.raises(TypeError):
            attack.pgd(*small, 0.1, 0.1, **keywords)
    assert torch.equal(attack.pgd(*small, 0.1, 0.1, np.int64(1), seed=np.int64(3)),
                       attack.pgd(*small, 0.1, 0.1, 1, seed=3))


def test_wrong_models(attack, small):
    """A function is no network; one layer in training mode is enough to be refused."""
    model, images, labels = small
    with pytest.raises(TypeError, match="got model of type function"):
        attack.fgsm(lambda x: model(x), images, labels, 0.1)
    model.layer = nn.Dropout()    # a new layer begins in training mode
    assert not model.training
    with pytest.raises(ValueError, match="eval"):
        attack.pgd(model, images, labels, 0.1, 0.1, 1)


@pytest.mark.parametrize("content", [b"", b"no weights", {}, 3, {"a": torch.zeros(3)}], ids=str)
def test_foreign_weights(attack, tmp_path, content):
    path = tmp_path / "mine.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="mine.pth holds no weights"):
        attack.load_classifier(path)
    with pytest.raises(FileNotFoundError, match="none.pth"):
        attack.load_classifier(tmp_path / "none.pth")


# What is promised

def test_demo_photos_and_their_files(attack, network, demo, tmp_path):
    """All that are classified rightly flip at 8/255 in 20 steps, as tensors and as PNG files."""
    images, labels = demo
    right = attack.probabilities_of(network, images).argmax(1) == labels
    assert right.sum() >= 12
    images, labels = images[right], labels[right]
    attacked = attack.pgd(network, images, labels, 8 / 255, 2 / 255, 20, seed=0)
    assert (attack.probabilities_of(network, attacked).argmax(1) != labels).all()
    files = []
    for number, image in enumerate(attacked):
        files.append(tmp_path / f"{number}.png")
        levels = (255 * image).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(files[-1])
    again = torch.stack([attack.image_of(file) for file in files])
    assert (again - images).abs().max() <= 8.5 / 255 + 1e-6    # half a level of rounding
    assert (attack.probabilities_of(network, again).argmax(1) != labels).all()


def test_export(tmp_path):
    """The module alone makes a PNG whose answer is the other one; what is wrong is one line."""
    start.export(6, tmp_path / "alone")
    def tool(*arguments):
        return subprocess.run([sys.executable, tmp_path / "alone" / "attack.py", *arguments],
                              cwd=tmp_path, capture_output=True, encoding="utf-8")
    done = tool(PHOTOS[0], "-o", "cat.png")
    assert done.returncode == 0, done.stderr
    assert "Dog" in done.stdout and "was Cat" in done.stdout
    assert Image.open(tmp_path / "cat.png").size == (128, 128)
    for arguments, text in (((PHOTOS[0], "-e", "999"), "want 0 to 1"), (("none.jpg",), "none.jpg"),
                            ((PHOTOS[0], "-e", "-1"), "want 0 to 1"),
                            ((tmp_path / "alone" / "attack.py",), "cannot be read")):
        failed = tool(*arguments)
        assert failed.returncode and text in failed.stderr, failed.stderr
        assert "Traceback" not in failed.stderr


# The notebook's other functions

@pytest.fixture(scope="module")
def page():
    """Definitions that readers run and the page's figures rest on."""
    with chdir(PROJECT):
        yield take(PROJECT / "inference.ipynb", "margins_of", "square_attack", "smallest_size",
                   "rank_correlation", "resized_back", "shifted", "saved", "fgsm_margins")


def test_margins(page, small):
    model, images, labels = small
    score = images.flatten(1) @ model.weight.detach()
    wanted = torch.stack([-score[0], score[1]])
    assert torch.allclose(page.margins_of(model, images, labels), wanted)
    margins = page.fgsm_margins(model, images, labels, (0, 255 * 0.1))
    assert torch.allclose(margins[:, 0], wanted)
    assert margins[0, 1] == pytest.approx(-score[0].item() - 0.25, abs=1e-5)    # nothing clamped


def test_smallest_size(page, small):
    """The score of the first photo is 0.15 below 0, that of the second 0.825 above: a size of
    0.06 flips the first (it moves the score by 0.15), none here the second."""
    model, images, labels = small
    smallest = page.smallest_size(model, images, labels, (0, 10, 14, 17, 20), steps=9)
    assert smallest.tolist() == [17, float("inf")]    # 17/255 is above 0.06, 14/255 below
    assert page.smallest_size(model, images, 1 - labels, (0, 1), steps=1).tolist() == [0, 0]


def test_square_attack(page, network, demo):
    """Changes stay within epsilon; a photo that fell is wrong, one that did not is right."""
    images, labels = demo[0][:4, :, ::2, ::2], demo[1][:4]
    attacked, fell = page.square_attack(network, images, labels, 8 / 255, 12)
    assert (attacked - images).abs().max() <= 8 / 255 + 1e-6
    assert 0 <= attacked.min() and attacked.max() <= 1
    wrong = page.margins_of(network, attacked, labels) < 0
    assert torch.equal(wrong, fell < float("inf")) and fell[wrong].max() <= 12


def test_rank_correlation(page):
    rng = np.random.default_rng(0)
    a = rng.normal(size=50)
    assert page.rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert page.rank_correlation(a, -a ** 3) == pytest.approx(-1)
    # equal values share their ranks: 1.5 1.5 3 4 beside 1 2 3.5 3.5
    assert page.rank_correlation(np.array([0, 0, 1, 2]), np.array([0, 1, 2, 2])) == (
        pytest.approx(np.corrcoef([1.5, 1.5, 3, 4], [1, 2, 3.5, 3.5])[0, 1]))


def test_changes(page, demo):
    """A shift by a whole pixel is a shift; a PNG keeps levels, sizes stay as they are."""
    images = demo[0][:2]
    assert torch.allclose(page.shifted(images, 1)[..., 1:, 1:], images[..., :-1, :-1], atol=1e-4)
    assert page.resized_back(images, 64).shape == images.shape
    assert (page.saved(images[0]) - images[0]).abs().max() <= 0.5 / 255 + 1e-6
    assert 0 < (page.saved(images[0], 50) - images[0]).abs().max() < 1


# Beside torchattacks

HAS_TORCHATTACKS = importlib.util.find_spec("torchattacks") is not None


def published_photos(side, count=500):
    """Of project 2's test photos the first in the archives, as many cats as dogs: images
    (count, 3, side, side), classes (count,)."""
    split = take(PROJECT / "inference.ipynb", "split").split
    archives, names = sorted((MIRROR / "petimages").glob("*.tar")), []
    for archive in archives:
        with tarfile.open(archive) as file:
            names += [Path(name) for name in file.getnames()]
    files = [Path(name.parent.name.title()) / name.name for name in names]
    chosen, images = {names[index] for index in split(files)[2].tolist()}, []
    for kind in ("cat", "dog"):
        own = []
        for archive in sorted((MIRROR / "petimages").glob(f"{kind}-*.tar")):
            with tarfile.open(archive) as file:
                for name in sorted(chosen & set(map(Path, file.getnames()))):
                    if len(own) < count // 2:
                        photo = Image.open(io.BytesIO(file.extractfile(str(name)).read()))
                        own.append(np.array(photo.convert("RGB").resize((side, side))))
        images += own
    assert len(images) == count
    return (torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255,
            torch.tensor([0, 1]).repeat_interleave(count // 2))


@pytest.fixture(scope="module")
def photos():
    if not (MIRROR / "petimages").is_dir():
        pytest.skip("DATASETS_MIRROR has no petimages")
    return published_photos(64)


def rightly(network, images, labels):
    """Share of the images that the network names rightly."""
    with torch.inference_mode():
        answers = torch.cat([network(batch).argmax(1) for batch in images.split(50)])
    return (answers == labels).float().mean().item()


def in_batches(function, images, labels):
    """A function of images and labels, 50 at a time."""
    return torch.cat([function(*both) for both in zip(images.split(50), labels.split(50))])


def compare(name, network, labels, ours, theirs):
    """Shares of rightly named photos after both, within 0.5 points."""
    shares = rightly(network, ours, labels), rightly(network, theirs, labels)
    print(f"{name}: {shares[0]:.1%} right, torchattacks {shares[1]:.1%}, "
          f"{(ours == theirs).float().mean():.3%} of the values equal")
    assert abs(shares[0] - shares[1]) <= 0.005


@pytest.mark.skipif(not HAS_TORCHATTACKS, reason="torchattacks is not installed: "
                    "pip install --no-deps --target FOLDER torchattacks==3.5.1 scipy; "
                    "PYTHONPATH=FOLDER")
def test_as_strong_as_torchattacks(attack, network, photos):
    """The same pictures where nothing is random; with random starts the same success, within
    0.5 points, on 500 test photos."""
    import torchattacks
    images, labels = photos

    for level in (0.5, 2, 8):
        size = level / 255
        theirs = in_batches(torchattacks.FGSM(network, eps=size), images, labels)
        ours = in_batches(partial(attack.fgsm, network, epsilon=size), images, labels)
        compare(f"FGSM {level}/255", network, labels, ours, theirs)
    for level, start_anywhere in ((0.5, False), (1, True)):
        size, step = level / 255, level / 255 / 4
        torch.manual_seed(0)
        theirs = in_batches(torchattacks.PGD(network, size, step, 10, start_anywhere),
                            images, labels)
        ours = in_batches(partial(attack.pgd, network, epsilon=size, step_size=step, steps=10,
                                  random_start=start_anywhere, seed=0), images, labels)
        compare(f"PGD {level}/255, random start {start_anywhere}", network, labels, ours, theirs)
