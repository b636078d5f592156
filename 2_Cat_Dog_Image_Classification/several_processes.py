"""Trains CatDogNet in several processes with Accelerate. Section 12 of train.ipynb runs it:

    torchrun --standalone --nproc-per-node 2 several_processes.py PHOTOS.npz

PHOTOS.npz holds `photos`, uint8 (N, 3, S, S), and `labels`, (N,) 0 or 1.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def network():
    """CatDogNet, from its cell in the notebook beside this file."""
    book = json.loads(Path(__file__).with_name("train.ipynb").read_text(encoding="utf-8"))
    cell, = (cell for cell in book["cells"]
             if "same:classifier" in cell["metadata"].get("tags", []))
    names = {"torch": torch, "nn": nn, "F": F}
    exec("".join(cell["source"]), names)
    return names["CatDogNet"]()


def main(file, epochs=2, batch_size=32):
    set_seed(0)                                  # the same first weights in all processes
    accelerator = Accelerator(cpu=torch.cuda.device_count() < 2)
    with np.load(file) as stored:
        photos = TensorDataset(torch.tensor(stored["photos"]), torch.tensor(stored["labels"]))
    loader = DataLoader(photos, batch_size=batch_size, shuffle=True)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for epoch in range(1, epochs + 1):
        right = []
        for images, labels in loader:            # each process gets other photos
            logits = model(images.float() / 255)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            accelerator.backward(loss)           # the mean of all processes' gradients
            optimizer.step()
            right.append(accelerator.gather_for_metrics(logits.argmax(1) == labels))
        share = torch.cat(right).float().mean().item()
        accelerator.print(f"epoch {epoch}: {share:.1%} of {len(torch.cat(right))} photos, "
                          f"{accelerator.num_processes} processes")
    mine = torch.cat([weights.detach().flatten() for weights in model.parameters()])
    apart = accelerator.gather(mine[None]).std(0, correction=0).max().item()
    accelerator.print(f"the processes' weights differ by {apart:.0e}")


if __name__ == "__main__":
    main(sys.argv[1])
