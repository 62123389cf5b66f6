"""Pack a training cache into one small file, to carry it to a machine with a GPU, and unpack it.

    python tools/pack_cache.py pack CACHE FILE [--without PATTERN] [--only PATTERN]
    python tools/pack_cache.py unpack FILE CACHE

About 30 % of the cache's size. An image is stored as its differences from the value that its
neighbours let expect, compressed. Intensities lose their last bits, which lie below a scan's noise:
in a window of -971 to 291 HU they keep steps of 10 HU between -179 and 197 HU, of 20 HU elsewhere.
Labels lose nothing. A teacher's scores keep 16 steps. Several files can be unpacked into one cache.
"""

from __future__ import annotations

import argparse
import bz2
import json
import zlib
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatchcase
from itertools import pairwise, repeat
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_FINE = (160, 236)  # levels of the cache between which every second one is kept; each fourth beside
_SHARE_STEP = 17  # 255 has 16 of them


def _levels() -> tuple[Bytes, Bytes]:
    """The number of each level's step, and the level that each step becomes."""
    low, high = _FINE
    edges = [*range(0, low, 4), *range(low, high, 2), *range(high, 256, 4), 256]
    steps = np.repeat(np.arange(len(edges) - 1), np.diff(edges)).astype(np.uint8)
    centres = [(a + b - 1) // 2 if a else 0 for a, b in pairwise(edges)]
    return steps, np.array(centres, dtype=np.uint8)


def _predicted(done: Bytes, z: int, along_z: bool) -> NDArray[np.int16]:
    """Slice z [y, x] as the slices before it let expect, or nothing of it."""
    if not along_z or z < 2:
        return np.zeros(done.shape[1:], np.int16)
    near, far = done[z - 1].astype(np.int16), done[z - 2].astype(np.int16)
    return np.clip(2 * near - far, 0, 255)


def _residual(image: Bytes) -> bytes:
    """What is left of an image [z, y, x], compressed; its first byte says how it was predicted."""
    best = b""
    for along_z in (0, 1):
        left = np.empty_like(image)
        for z, plane in enumerate(image):
            rest = plane.astype(np.int16) - _predicted(image, z, bool(along_z))
            across = np.diff(rest, axis=1, prepend=0)  # of a slice: to its neighbour before it
            left[z] = np.diff(across, axis=0, prepend=0).astype(np.uint8)
        packed = bytes([along_z]) + bz2.compress(left.tobytes())
        best = packed if not best or len(packed) < len(best) else best
    return best


def _image(packed: bytes, shape: tuple[int, ...]) -> Bytes:
    """The image again."""
    left = np.frombuffer(bz2.decompress(packed[1:]), np.uint8).reshape(shape)
    image = np.empty(shape, np.uint8)
    for z, plane in enumerate(left):
        rest = plane.cumsum(axis=0, dtype=np.uint8).cumsum(axis=1, dtype=np.uint8)
        image[z] = (rest + _predicted(image, z, bool(packed[0]))).astype(np.uint8)
    return image


def pack(cache: Path, target: Path, only: str, without: str) -> None:
    """Write one file of the cases whose names match one pattern and not the other."""
    content = json.loads((cache / "cache.json").read_text())
    content["cases"] = [
        case
        for case in content["cases"]
        if fnmatchcase(case["name"], only) and not fnmatchcase(case["name"], without)
    ]
    steps, _ = _levels()
    with ZipFile(target, "w", ZIP_STORED) as out:
        for case in content["cases"]:
            name = case["name"]
            out.writestr(f"{name}.image", _residual(steps[np.load(cache / f"{name}.image.npy")]))
            labels = zlib.decompress((cache / f"{name}.labels.z").read_bytes())
            out.writestr(f"{name}.labels", bz2.compress(labels))
            points = np.load(cache / f"{name}.points.npy")
            out.writestr(f"{name}.points", bz2.compress(points.T.tobytes()))
            if case["teacher"] and case["use_teacher"]:
                scores = _teacher(cache, case).copy()
                scores[2] = np.rint(scores[2] / _SHARE_STEP)
                scores[1][scores[2] == 255 // _SHARE_STEP] = (
                    0  # the second class counts for nothing
                )
                out.writestr(f"{name}.teacher", bz2.compress(scores.tobytes()))
            else:
                case["teacher"] = ""  # what is not packed has to be made again
        out.writestr("cache.json", json.dumps(content))
    print(f"{target}: {len(content['cases'])} cases, {target.stat().st_size / 1e6:.1f} MB")


def _teacher(cache: Path, case: dict) -> Bytes:
    stored = zlib.decompress((cache / f"{case['name']}.teacher.z").read_bytes())
    return np.frombuffer(stored, np.uint8).reshape(3, *case["shape"])


def unpack(source: Path, cache: Path) -> None:
    """Make the cache that `viscera train RECIPE --cache CACHE` takes."""
    cache.mkdir(parents=True, exist_ok=True)
    with ZipFile(source) as packed:
        content = json.loads(packed.read("cache.json"))
    cases, names = content["cases"], {case["name"] for case in content["cases"]}
    if (cache / "cache.json").exists():
        before = json.loads((cache / "cache.json").read_text())
        if before["grid"] != content["grid"]:
            raise SystemExit(f"{cache} is a cache of another grid: choose another folder")
        content["cases"] = [c for c in before["cases"] if c["name"] not in names] + cases
    with ProcessPoolExecutor() as pool:
        list(pool.map(_unpack_case, repeat(source), repeat(cache), cases))
    (cache / "cache.json").write_text(json.dumps(content))


def _unpack_case(source: Path, cache: Path, case: dict) -> None:
    name, shape = case["name"], tuple(case["shape"])
    _, centres = _levels()
    with ZipFile(source) as packed:
        np.save(cache / f"{name}.image.npy", centres[_image(packed.read(f"{name}.image"), shape)])
        labels = bz2.decompress(packed.read(f"{name}.labels"))
        (cache / f"{name}.labels.z").write_bytes(zlib.compress(labels, 1))
        points = np.frombuffer(bz2.decompress(packed.read(f"{name}.points")), np.uint16)
        np.save(cache / f"{name}.points.npy", np.ascontiguousarray(points.reshape(4, -1).T))
        if f"{name}.teacher" in packed.namelist():
            scores = np.frombuffer(bz2.decompress(packed.read(f"{name}.teacher")), np.uint8)
            scores = scores.reshape(3, *shape).copy()
            scores[2] *= _SHARE_STEP
            (cache / f"{name}.teacher.z").write_bytes(zlib.compress(scores.tobytes(), 1))


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--only", default="*", help="pattern of the names of cases to pack")
    parser.add_argument("--without", default="", help="pattern of the names that stay behind")
    options = parser.parse_args()
    if options.what == "pack":
        pack(options.source, options.target, options.only, options.without)
    else:
        unpack(options.source, options.target)


if __name__ == "__main__":
    main()
