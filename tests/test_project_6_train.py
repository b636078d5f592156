"""Project 6: the defence: attacks and batches of the training, kill and resume, the judges, the
shipped weights and their figures."""
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from notebooks import ROOT, interrupted, take

PROJECT = ROOT / "6_Adversarial_Attack"
MODELS = ROOT / "models" / PROJECT.name
MIRROR = Path(os.environ.get("DATASETS_MIRROR", "there is none"))
FIGURES = json.loads((MODELS / "metrics.json").read_text(encoding="utf-8"))
EPSILON = 4 / 255


@pytest.fixture(scope="module")
def lesson():
    return take(PROJECT / "train.ipynb", "train_robust", "train_step", "batch_at", "single_step",
                "fgsm", "pgd_at", "cropped", "right_shares", "shares_by_level",
                "survives_restarts", "survives_squares", "margin_gradient", "input_gradient",
                "strength", "correlation", "CatDogNet", "small_network", "standard_network",
                "split", "decode")


@pytest.fixture
def photos(lesson):
    """40 photos of noise, half of each class, as the notebook holds them."""
    torch.manual_seed(1)
    lesson.photos = torch.randint(0, 256, (40, 3, 128, 128), dtype=torch.uint8)
    lesson.labels = torch.arange(40) % 2
    return torch.arange(40)


class Brightness(nn.Module):
    """A dog is a photo whose mean is above 0.5. The margin is 100 · |mean - 0.5|: a change of
    epsilon in all pixels moves it by 100 · epsilon, and no change moves it further."""

    def __init__(self):
        super().__init__()
        self.scale, self.asked = nn.Parameter(torch.tensor(100.0)), []

    def forward(self, images):
        self.asked.append(images.detach())
        score = self.scale * (images.mean((1, 2, 3)) - 0.5)
        return torch.stack([torch.zeros_like(score), score], 1)


def grey(*levels, side=32):
    """Photos of one grey each, so many levels of 255 above the middle: (N, 3, side, side)."""
    return torch.stack([torch.full((3, side, side), 0.5 + level / 255) for level in levels])


# The single step, and the batches

@pytest.mark.parametrize("start, length", [(0, 1), (1, 1.25), (1, 2), (0.5, 0)])
def test_single_step_stays_within_epsilon(lesson, start, length):
    torch.manual_seed(0)
    model, images = lesson.small_network(), torch.rand(4, 3, 32, 32)
    images[0], images[1] = 0, 1    # a black and a white photo: nothing below 0, above 1
    before, truth = images.clone(), torch.tensor([0, 1, 0, 1])
    attacked = lesson.single_step(model, images, truth, EPSILON, start, length)
    assert (attacked - images).abs().max() <= EPSILON + 1e-6
    assert 0 <= attacked.min() and attacked.max() <= 1 and not attacked.requires_grad
    assert torch.equal(images, before) and all(w.grad is None for w in model.parameters())
    torch.manual_seed(7)
    first = lesson.single_step(model.eval(), images, truth, EPSILON, start, length)
    torch.manual_seed(8)
    other = lesson.single_step(model, images, truth, EPSILON, start, length)
    assert torch.equal(first, other) == (start == 0)    # a random start is another each time


def test_single_step_from_the_photo_is_fgsm(lesson):
    torch.manual_seed(0)
    model, images, truth = lesson.small_network().eval(), torch.rand(4, 3, 32, 32), torch.arange(2)
    truth = truth.repeat(2)
    attacked = lesson.single_step(model, images, truth, EPSILON, 0, 1)
    assert torch.allclose(attacked, lesson.fgsm(model, images, truth, EPSILON), atol=1e-6)


def test_single_step_goes_uphill(lesson):
    """With the defaults, three pixels in four and more end at the far side of the cube."""
    images, truth = grey(20, -20), torch.tensor([1, 0])
    attacked = lesson.single_step(Brightness(), images, truth, EPSILON)
    uphill = (attacked - images) * torch.tensor([-1, 1])[:, None, None, None]
    assert uphill.mean() > 0.8 * EPSILON and uphill.min() > 0.2 * EPSILON


def test_batches_hold_each_photo_once_a_pass(lesson):
    indices, size = torch.arange(100, 140), 8
    passes = [[lesson.batch_at(indices, 5 * epoch + place, size, 3) for place in range(5)]
              for epoch in range(3)]
    for batches in passes:
        assert {len(batch) for batch in batches} == {size}
        assert torch.equal(torch.cat(batches).sort().values, indices)
    orders = [torch.cat(batches).tolist() for batches in passes]
    assert orders[0] != orders[1] != orders[2] != orders[0]    # each pass has its own
    assert orders[0] != torch.cat([lesson.batch_at(indices, n, size, 4) for n in range(5)]).tolist()
    torch.manual_seed(9)
    torch.rand(3)
    assert torch.equal(lesson.batch_at(indices, 7, size, 3), passes[1][2])    # whenever asked
    odd = torch.cat([lesson.batch_at(indices, place, 12, 0) for place in range(3)])
    assert len(odd.unique()) == 36    # what is left over of a pass is left out


@pytest.mark.parametrize("side", [32, 64, 128])
def test_cropped(lesson, photos, side):
    """Squares of that side, in [0, 1], some of them mirrored."""
    lesson.photos[:, :, :, :64], lesson.photos[:, :, :, 64:] = 0, 255    # dark left of bright
    images = lesson.cropped(photos, side)
    assert images.shape == (40, 3, side, side) and 0 <= images.min() and images.max() <= 1
    mirrored = images[:, 0, 0, 0] > images[:, 0, 0, -1]
    assert 5 < mirrored.sum() < 35


# Kill and resume

TINY = {"phases": [[32, 1], [48, 2]], "batch_size": 8, "learning_rate": 0.02, "weight_decay": 0.01,
        "epsilon": EPSILON, "rising": 0.1, "average": 0.9}


def tiny_training(lesson, folder, indices, interrupt_at=None, seed=0, **changes):
    """Train a tiny network for three passes of five steps: its weights, and the history.

    interrupt_at: that gradient step raises KeyboardInterrupt.
    """
    folder.mkdir(exist_ok=True)
    lesson.MODELS, lesson.SAVE_EVERY = folder, 0.0
    torch.manual_seed(0)
    model = lesson.CatDogNet(width=4).to(memory_format=lesson.LAYOUT)
    recipe = TINY | changes

    def validate(model, side):
        return {"clean": lesson.right_shares(model, indices[:4], side)[0], "asked_at": side}

    with interrupted(lesson, "train_step", interrupt_at):
        model, history = lesson.train_robust(model, indices, recipe, seed, validate,
                                             settings=recipe | {"seed": seed})
    return model.state_dict(), history


@pytest.mark.parametrize("interrupt_at", [3, 6, 14])
def test_interrupted_training_ends_the_same(lesson, photos, tmp_path, interrupt_at):
    """Stopped in any pass and started again: the same weights, bit for bit."""
    whole, history = tiny_training(lesson, tmp_path / "whole", photos)
    with pytest.raises(KeyboardInterrupt):
        tiny_training(lesson, tmp_path / "broken", photos, interrupt_at)
    resumed, resumed_history = tiny_training(lesson, tmp_path / "broken", photos)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for rows in (history, resumed_history):
        assert [(row["epoch"], row["side"], row["asked_at"]) for row in rows] == [
            (1, 32, 32), (2, 48, 48), (3, 48, 48)]
        assert sorted(row["seconds"] for row in rows) == [row["seconds"] for row in rows]
    assert [row["loss"] for row in history] == [row["loss"] for row in resumed_history]
    again, _ = tiny_training(lesson, tmp_path / "whole", photos)    # nothing is left to do
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_other_settings_leave_a_checkpoint_alone(lesson, photos, tmp_path, capsys):
    """Stopped, other experiments in between, and on: as if never stopped."""
    whole, _ = tiny_training(lesson, tmp_path / "whole", photos)
    with pytest.raises(KeyboardInterrupt):
        tiny_training(lesson, tmp_path, photos, 8)
    other, _ = tiny_training(lesson, tmp_path, photos, epsilon=8 / 255)
    seeded, _ = tiny_training(lesson, tmp_path, photos, seed=1)
    capsys.readouterr()
    resumed, _ = tiny_training(lesson, tmp_path, photos)
    assert capsys.readouterr().out.startswith("goes on from")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for changed in (other, seeded):
        assert not all(torch.equal(whole[name], changed[name]) for name in whole)


def test_validation_does_not_change_the_training(lesson, photos, tmp_path):
    """Neither does looking at the network with attacks that draw random starts of their own."""
    torch.manual_seed(0)
    models = [lesson.CatDogNet(width=4).to(memory_format=lesson.LAYOUT)]
    models.append(lesson.CatDogNet(width=4).to(memory_format=lesson.LAYOUT))
    models[1].load_state_dict(models[0].state_dict())

    def look(model, side):
        return {"pgd": lesson.right_shares(model, photos[:4], side, lesson.pgd_at(4, 1))[1]}

    states = [lesson.train_robust(model, photos, TINY, 0, validate)[0].state_dict()
              for model, validate in zip(models, (lambda model, side: {}, look))]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_attack_of_training_is_used(lesson, photos):
    """Epsilon rises to its value, and each batch of training is attacked."""
    sizes = []

    def attack(model, images, truth, epsilon):
        sizes.append(epsilon)
        assert model.training and images.shape[1:] in ((3, 32, 32), (3, 48, 48))
        return images

    model = lesson.CatDogNet(width=4)
    lesson.train_robust(model, photos, TINY | {"rising": 0.5}, 0, attack=attack)
    assert len(sizes) == 15 and sorted(sizes) == sizes
    assert 0 < sizes[0] < EPSILON / 4 and sizes[7] < sizes[8] == sizes[-1] == EPSILON


# Judging

def test_right_shares(lesson, photos):
    """Right before and after; an attack does not make a wrong photo count as right."""
    lesson.photos[:20], lesson.photos[20:] = 200, 50
    lesson.labels = torch.tensor([1] * 10 + [0] * 30)    # ten of the bright ones are cats
    model = Brightness().eval()
    assert lesson.right_shares(model, photos, 32) == (0.75, 0)    # without an attack: no share

    def invert(model, images, truth):
        return 1 - images

    assert lesson.right_shares(model, photos, 32, invert) == (0.75, 0)
    assert lesson.right_shares(model, photos, 32, lambda model, images, truth: images) == (
        0.75, 0.75)
    assert lesson.right_shares(model, photos[10:20], 32, invert) == (0, 0)


def test_shares_by_level(lesson, photos):
    """Each photo falls at the level that moves it over the middle; what fell stays out."""
    lesson.photos[:] = (torch.tensor([129, 130, 132, 136] * 10) - 1).view(-1, 1, 1, 1)
    lesson.labels = torch.ones(40, dtype=torch.long)    # 0.5, 1.5, 3.5, 7.5 levels above
    model = Brightness().eval()
    shares = lesson.shares_by_level(model, photos, steps=10)
    assert lesson.LEVELS == (1, 2, 4, 8) and shares == [1, 0.75, 0.5, 0.25, 0]
    lesson.labels = torch.zeros(40, dtype=torch.long)
    assert lesson.shares_by_level(model, photos, steps=1) == [0] * 5    # and an empty rest


def test_survives_restarts(lesson):
    images, truth = grey(1, 3.9, 4.1, 9, -9), torch.ones(5, dtype=torch.long)
    model = Brightness().eval()
    right = lesson.survives_restarts(model, images, truth, EPSILON, steps=20, restarts=3)
    assert right.tolist() == [False, False, True, True, False]
    batches = [len(asked) for asked in model.asked]
    assert batches[0] == 5 and batches[-1] == 2    # what fell is not attacked again
    assert max((asked[-1] - images[3]).abs().max() for asked in model.asked[-3:]) <= EPSILON + 1e-6


def test_survives_squares(lesson):
    """It stays within epsilon, asks no more often than it may, and counts no wrong photo."""
    images, truth = grey(0.2, 9, -9, 4.1), torch.tensor([1, 1, 1, 1])
    model = Brightness().eval()
    right = lesson.survives_squares(model, images, truth, EPSILON, questions=200)
    assert right.tolist() == [False, True, False, True] and len(model.asked) <= 200
    assert model.asked[0].shape == images.shape
    assert (model.asked[0] - images).abs().max() <= EPSILON + 1e-6
    left = len(model.asked[-1])    # those two that nothing within epsilon moves over the middle
    assert left == 2 and len(model.asked) == 200
    last = model.asked[-1]
    assert (last - images[[1, 3]]).abs().max() <= EPSILON + 1e-6
    assert last.mean() < images[[1, 3]].mean() - 0.2 * EPSILON    # it came some way
    again = lesson.survives_squares(Brightness().eval(), images, truth, EPSILON, questions=200)
    assert torch.equal(right, again)
    bright, dark = torch.ones(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    for photo, kind in ((bright, 1), (dark, 0)):
        assert lesson.survives_squares(model, photo, torch.tensor([kind]), EPSILON, 20).all()
        assert 0 <= model.asked[-1].min() and model.asked[-1].max() <= 1


def test_margin_and_loss_have_gradients_of_one_sign(lesson):
    torch.manual_seed(0)
    model, images = lesson.small_network().eval(), torch.rand(4, 3, 32, 32)
    truth = torch.tensor([0, 1, 1, 0])
    margin = lesson.margin_gradient(model, images, truth)
    loss = lesson.input_gradient(model, images, truth)
    assert (margin.sign() == loss.sign()).float().mean() > 0.999


def test_correlation_and_strength(lesson):
    torch.manual_seed(0)
    a, b = torch.rand(2, 5, 3, 40, 40)
    assert lesson.correlation(a, 3 * a + 1) == pytest.approx(1, abs=1e-4)
    assert lesson.correlation(a, -a) == pytest.approx(-1, abs=1e-4)
    assert abs(lesson.correlation(a, b)) < 0.05
    shown = lesson.strength(lesson.small_network().eval(), a, torch.tensor([0, 1, 0, 1, 0]))
    assert shown.shape == (5, 40, 40) and 0 <= shown.min() and shown.max() == 1


# The shipped weights

@pytest.mark.parametrize("name, most", [("model.pth", 16e6), ("plain.pth", 2e6)])
def test_weights(lesson, name, most):
    """A plain state_dict: float32, but for batch normalisation's counters, and nothing else."""
    state = torch.load(MODELS / name, map_location="cpu", weights_only=True)
    network = lesson.CatDogNet() if name == "model.pth" else lesson.small_network()
    wanted = network.state_dict()
    assert {key: (value.shape, value.dtype) for key, value in state.items()} == {
        key: (value.shape, value.dtype) for key, value in wanted.items()}
    assert all(value.isfinite().all() for value in state.values())
    assert (MODELS / name).stat().st_size <= most


def test_figures_are_of_these_weights(lesson):
    assert FIGURES["weights_sha256"] == hashlib.sha256(
        (MODELS / "model.pth").read_bytes()).hexdigest()
    epochs = sum(epochs for _, epochs in FIGURES["parameters"]["phases"])
    assert [row["epoch"] for row in FIGURES["history"]] == list(range(1, epochs + 1))
    assert all(row["pgd"] <= row["fgsm"] <= row["clean"] for row in FIGURES["history"])
    assert FIGURES["cost"]["seconds"] == pytest.approx(FIGURES["history"][-1]["seconds"], abs=1)
    for result in FIGURES["results"].values():
        if isinstance(result, dict) and "interval" in result:
            low, high = result["interval"]
            assert low <= result["value"] <= high and result["n"] > 0


@pytest.mark.skipif(not (MIRROR / "petimages").is_dir(), reason="DATASETS_MIRROR has no petimages")
def test_published_figures(lesson):
    """The stored weights give the stated figures: here on 60 test photos, with ten steps."""
    names, chosen = [], []
    for archive in sorted((MIRROR / "petimages").glob("*.tar")):
        with tarfile.open(archive) as file:
            names += [Path(name) for name in file.getnames()]
    files = [Path(name.parent.name.title()) / name.name for name in names]
    tests = {names[index] for index in lesson.split(files)[2].tolist()}
    for kind in ("cat", "dog"):
        with tarfile.open(MIRROR / "petimages" / f"{kind}-000.tar") as file:
            for name in sorted(tests & set(map(Path, file.getnames())))[:30]:
                chosen.append(lesson.decode(io.BytesIO(file.extractfile(str(name)).read())))
    assert len(chosen) == 60
    lesson.photos = torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2)
    lesson.labels, indices = torch.arange(60) // 30, torch.arange(60)
    robust = lesson.CatDogNet()
    robust.load_state_dict(torch.load(MODELS / "model.pth", weights_only=True))
    lesson.STANDARD = ROOT / "models" / "2_Cat_Dog_Image_Classification" / "model.pth"
    for name, model in (("", robust), ("standard_", lesson.standard_network())):
        shares = lesson.right_shares(model.to(memory_format=lesson.LAYOUT), indices,
                                     lesson.IMAGE_SIZE, lesson.pgd_at(4))
        for key, share in zip(("clean", "pgd"), shares):
            stated = FIGURES["results"][name + key]["value"]
            spread = (stated * (1 - stated) / 60) ** 0.5
            assert abs(share - stated) <= 3 * spread + 0.03, (name + key, share, stated)
