"""Train the network of the `phantom` bundle, on generated phantoms only.

    pip install torch onnx onnxscript && pip install .
    python tools/train_phantom_bundle.py src/viscera/bundles/phantom [--steps 1500]

Writes model.onnx. Its sha256 then goes into bundle.toml, by hand, after `tests` have passed on it.
"""

from __future__ import annotations

import argparse
import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from viscera.core.phantom import make_phantom

SPACING_MM = 4.0
PATCH = (64, 80, 96)  # z, y, x
MEAN_HU, STD_HU, WINDOW_HU = 70.0, 230.0, (-160.0, 300.0)


class PhantomNet(nn.Module):
    """A small 3D U-Net with a stride-2 stem: (N, 1, D, H, W) to (N, 14, D, H, W) scores."""

    def __init__(self, widths: tuple[int, ...] = (8, 16, 24, 40)) -> None:
        super().__init__()
        self.stem = _block(1, widths[0], stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(_block(a, b, stride=2), _block(b, b)) for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(_block(2 * a, a) for a in widths[:-1])
        self.head = nn.ConvTranspose3d(widths[0], 14, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = [self.stem(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(torch.cat((up(x), levels.pop()), dim=1))
        return self.head(x)


def _block(inside: int, out: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv3d(inside, out, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(out), nn.ReLU(inplace=True))


def sample(cases: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator):
    """One training pair: a random case, shifted, cropped along z, with noise and HU jitter."""
    hu, labels = cases[rng.integers(len(cases))]
    shift = rng.integers(-5, 6, size=2)
    z = rng.integers(0, hu.shape[0] - PATCH[0] + 1)
    hu = np.roll(hu[z : z + PATCH[0]], shift, axis=(1, 2))
    labels = np.roll(labels[z : z + PATCH[0]], shift, axis=(1, 2))
    hu = hu * rng.uniform(0.95, 1.05) + rng.normal(0, rng.uniform(0, 12), hu.shape)
    hu = (np.clip(hu, *WINDOW_HU) - MEAN_HU) / STD_HU
    return hu.astype(np.float32), labels.astype(np.int64)


def loss_of(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Soft Dice over all classes plus cross-entropy that weighs organs ten times."""
    weight = torch.ones(14)
    weight[1:] = 10.0
    truth = F.one_hot(labels, 14).permute(0, 4, 1, 2, 3).float()
    soft = scores.softmax(dim=1)
    overlap = (soft * truth).sum(dim=(0, 2, 3, 4))
    total = (soft + truth).sum(dim=(0, 2, 3, 4))
    dice = 1 - ((2 * overlap + 1) / (total + 1)).mean()
    return dice + F.cross_entropy(scores, labels, weight=weight)


def main() -> None:
    """Generate, train, export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    cases = []
    for seed in range(1000, 1040):  # the tests use seeds below 1000
        volume, labels = make_phantom(
            seed, shape=(96, 80, 72), spacing_mm=(SPACING_MM,) * 3, noise_hu=rng.uniform(3, 14)
        )
        cases.append((volume.data.T.astype(np.float32), labels.T.copy()))
    net = PhantomNet()
    print(sum(p.numel() for p in net.parameters()), "parameters", flush=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=args.steps)
    for step in range(args.steps):
        pairs = [sample(cases, rng) for _ in range(2)]
        hu = torch.from_numpy(np.stack([p[0] for p in pairs])[:, None])
        labels = torch.from_numpy(np.stack([p[1] for p in pairs]))
        loss = loss_of(net(hu), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == args.steps - 1:
            print(step, round(float(loss), 4), flush=True)
    net.eval()
    args.folder.mkdir(parents=True, exist_ok=True)
    target = args.folder / "model.onnx"
    torch.onnx.export(
        net,
        (torch.zeros(1, 1, *PATCH),),
        str(target),
        input_names=["input"],
        output_names=["output"],
        opset_version=18,
        dynamo=True,
        external_data=False,
    )
    print("sha256", hashlib.sha256(target.read_bytes()).hexdigest(), target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
