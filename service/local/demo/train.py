"""The demo's job: learns to read handwritten digits, with nothing but Python's standard library.

    python train.py --data digits.csv.gz --out FOLDER [--epochs 10]

A network of 64 pixels, 32 hidden units and 10 digits, trained by mini-batch gradient descent. Everything
random comes from one seed, so the same data gives the same model. Every fifth image is held out; accuracy
is told on those alone. Writes model.json and metrics.json, whole or not at all.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Callable
from operator import mul
from pathlib import Path
from typing import Any

Image = tuple[list[float], int]
Rows = list[list[float]]
Model = dict[str, Rows]

PIXELS, HIDDEN, DIGITS = 64, 32, 10
DARKEST = 16.0
SEED = 20260101
BATCH = 16
RATE = 0.35
MOMENTUM = 0.5


def read(path: str | Path) -> tuple[list[Image], list[Image]]:
    """Images as (pixels from 0 to 1, digit), split into (training, held out)."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        rows = [[int(number) for number in line.split(",")] for line in file]
    images = [([pixel / DARKEST for pixel in row[:PIXELS]], row[PIXELS]) for row in rows]
    held_out = images[::5]
    return [image for index, image in enumerate(images) if index % 5], held_out


def new_model(rng: random.Random) -> Model:
    """Weights and, last in each row, the bias of every unit."""

    def layer(units: int, inputs: int) -> Rows:
        spread = math.sqrt(2.0 / inputs)
        return [[rng.gauss(0.0, spread) for _ in range(inputs)] + [0.0] for _ in range(units)]

    return {"hidden": layer(HIDDEN, PIXELS), "digits": layer(DIGITS, HIDDEN)}


def forward(model: Model, pixels: list[float]) -> tuple[list[float], list[float]]:
    """The hidden units' values and the probability of every digit."""
    inputs = [*pixels, 1.0]
    hidden = [max(0.0, sum(map(mul, row, inputs))) for row in model["hidden"]]
    seen = [*hidden, 1.0]
    scores = [sum(map(mul, row, seen)) for row in model["digits"]]
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    total = sum(powers)
    return hidden, [power / total for power in powers]


def accuracy(model: Model, images: list[Image]) -> float:
    """The share of images whose most probable digit is the right one."""
    right = 0
    for pixels, digit in images:
        chances = forward(model, pixels)[1]
        right += chances.index(max(chances)) == digit
    return right / len(images)


def plus(row: list[float], factor: float, other: list[float]) -> list[float]:
    """`row` and `factor` times `other`, number by number."""
    return [old + factor * value for old, value in zip(row, other, strict=True)]


def gradients(model: Model, batch: list[Image]) -> tuple[float, Model]:
    """The mean loss of a batch, and how it changes with every weight."""
    on_hidden = [[0.0] * (PIXELS + 1) for _ in range(HIDDEN)]
    on_digits = [[0.0] * (HIDDEN + 1) for _ in range(DIGITS)]
    loss, share = 0.0, 1.0 / len(batch)
    for pixels, digit in batch:
        hidden, chances = forward(model, pixels)
        loss -= math.log(max(chances[digit], 1e-12)) * share
        inputs, seen = [*pixels, 1.0], [*hidden, 1.0]
        back = [0.0] * HIDDEN
        for unit, chance in enumerate(chances):
            error = (chance - (unit == digit)) * share
            on_digits[unit] = plus(on_digits[unit], error, seen)
            back = plus(back, error, model["digits"][unit][:HIDDEN])
        for unit, value in enumerate(hidden):
            if value > 0.0:
                on_hidden[unit] = plus(on_hidden[unit], back[unit], inputs)
    return loss, {"hidden": on_hidden, "digits": on_digits}


def step(model: Model, speed: Model, change: Model, rate: float) -> None:
    """One step downhill, with some of the last one's direction."""
    for name, rows in model.items():
        for unit, row in enumerate(rows):
            moved = plus([MOMENTUM * old for old in speed[name][unit]], -rate, change[name][unit])
            speed[name][unit] = moved
            rows[unit] = plus(row, 1.0, moved)


def train(
    training: list[Image], held_out: list[Image], epochs: int, tell: Callable[[str], None] = print
) -> tuple[Model, list[dict[str, Any]]]:
    """The trained model and a line of metrics for every epoch."""
    rng = random.Random(SEED)  # noqa: S311 - it must give the same model every time
    model = new_model(rng)
    speed = {name: [[0.0] * len(row) for row in rows] for name, rows in model.items()}
    lines = []
    for epoch in range(1, epochs + 1):
        began = time.monotonic()
        order = rng.sample(training, len(training))
        rate = RATE / (1.0 + 0.2 * (epoch - 1))
        losses = []
        for start in range(0, len(order), BATCH):
            loss, change = gradients(model, order[start : start + BATCH])
            step(model, speed, change, rate)
            losses.append(loss)
        line = {
            "epoch": epoch,
            "loss": sum(losses) / len(losses),
            "accuracy": accuracy(model, held_out),
            "seconds": round(time.monotonic() - began, 3),
        }
        lines.append(line)
        tell(
            f"epoch {epoch:2} of {epochs}  loss {line['loss']:.4f}  accuracy {line['accuracy']:.4f}"
            f"  {line['seconds']:.2f} s"
        )
    return model, lines


def write(folder: Path, name: str, value: object) -> str:
    """Writes a JSON file that is there as a whole, or not at all; its SHA-256."""
    raw = json.dumps(value).encode()
    partial = folder / f".{name}.partial"
    partial.write_bytes(raw)
    partial.replace(folder / name)
    return hashlib.sha256(raw).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Learns to read handwritten digits.")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()

    def tell(text: str) -> None:
        print(text, flush=True)

    training, held_out = read(asked.data)
    tell(f"Python {sys.version.split()[0]}: {len(training)} images to learn from, {len(held_out)} held out")
    model, lines = train(training, held_out, asked.epochs, tell)
    asked.out.mkdir(parents=True, exist_ok=True)
    metrics = {"seed": SEED, "accuracy": lines[-1]["accuracy"], "epochs": lines}
    for name, value in (("model.json", model), ("metrics.json", metrics)):
        tell(f"wrote {name} sha256 {write(asked.out, name, value)}")


if __name__ == "__main__":
    main()
