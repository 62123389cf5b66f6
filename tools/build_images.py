"""Build the images of docker/ with buildah: no daemon, and no registry where a base is made here.

    python tools/build_images.py FOLDER [--base python:3.12-slim]

Images and their layers go into FOLDER. Without `--base`, a base with Python is made by debootstrap,
of the Debian that this machine runs. The package index is the one that pip uses here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("flare", "viscera")
_OF_PIP = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs")  # how pip reaches its index


class ImageFolder:
    """A folder of images, with buildah's storage in it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is built yet.

        Args:
            folder: made where it is missing.
        """
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)

    def buildah(self, *words: object) -> str:
        """What a command of buildah prints."""
        call = ["buildah", "--storage-driver", "vfs", "--root", self.folder / "storage",
                "--runroot", self.folder / "run", *words]  # fmt: skip
        done = subprocess.run(list(map(str, call)), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"buildah {words[0]}: {done.stderr[-2000:]}")
        return done.stdout.strip()

    def make_base(self) -> str:
        """A base image with Python, made of Debian's packages."""
        tree = self.folder / "base"
        if not tree.exists():
            release = dict(
                line.partition("=")[::2]
                for line in Path("/etc/os-release").read_text().splitlines()
            )
            aside = self.folder / "base.part"
            shutil.rmtree(aside, ignore_errors=True)
            subprocess.run(
                ["debootstrap", "--variant=minbase", "--include=python3,python3-venv",
                 release["VERSION_CODENAME"], aside],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            for left in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
                shutil.rmtree(aside / left, ignore_errors=True)
            aside.rename(tree)
        container = self.buildah("from", "scratch")
        self.buildah("add", "-q", container, tree, "/")
        self.buildah("commit", "-q", "--rm", container, "viscera-base")
        return "localhost/viscera-base"

    def build(self, name: str, base: str) -> str:
        """Build one image; its name.

        Args:
            name: of its folder in docker/.
            base: image to build upon.
        """
        volumes = [w for path in _OF_PIP if Path(path).exists()
                   for w in ("--volume", f"{path}:{path}:ro")]  # fmt: skip
        self.buildah("bud", "--isolation", "chroot", "--format", "docker", *volumes,
                     "--build-arg", f"BASE={base}", "-f", ROOT / "docker" / name / "Dockerfile",
                     "-t", f"viscera-{name}", ROOT)  # fmt: skip
        return f"viscera-{name}"

    def settings(self, image: str) -> dict[str, object]:
        """The settings of an image, as Docker has them."""
        settings: dict[str, object] = json.loads(self.buildah("inspect", "--type", "image", image))
        docker = settings["Docker"]
        assert isinstance(docker, dict)
        return dict(docker["config"])

    @contextmanager
    def tree(self, image: str) -> Iterator[Path]:
        """The files of an image."""
        container = self.buildah("from", image)
        try:
            yield Path(self.buildah("mount", container))
        finally:
            self.buildah("rm", container)


def size_mb(tree: Path) -> float:
    """What the files of an image take."""
    files = (path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def main() -> None:
    """Build, and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", help="image to build upon; default: made by debootstrap")
    options = parser.parse_args()
    images = ImageFolder(options.folder)
    base = options.base or images.make_base()
    for name in IMAGES:
        with images.tree(images.build(name, base)) as tree:
            print(f"viscera-{name}: {size_mb(tree):.0f} MB unpacked")


if __name__ == "__main__":
    main()
