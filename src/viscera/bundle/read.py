"""Bundles on disk: those that came with the installation, and how any of them is read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from viscera.bundle.onnx_check import names_external_data
from viscera.bundle.spec import FORMAT, Bundle
from viscera.bundle.toml_schema import load_dataclass
from viscera.errors import BundleError, option
from viscera.runtime.paths import checked_path
from viscera.runtime.small_files import MOST_WEIGHTS_BYTES, read_file_bytes, read_toml_file

WEIGHTS = "weights.safetensors"  # of a bundle that trainings can begin with
_PACKAGED = Path(__file__).parents[1] / "bundles"
# What pickles begin with: a protocol opcode, or torch's zip archive.
_PICKLE_STARTS = (b"\x80", b"PK\x03\x04")


def packaged_bundles() -> tuple[str, ...]:
    """Names of the bundles that came with the installation."""
    return tuple(sorted(p.parent.name for p in _PACKAGED.glob("*/bundle.toml")))


def read_bundle(source: str | Path) -> Bundle:
    """Read and check a bundle: its settings, and the checksum of its weights.

    Args:
        source: a bundle's folder, or the name of a packaged one.

    Raises:
        UsageError: the name is empty.
        BundleError: missing, unknown keys, wrong values, or weights that are not those described.
    """
    folder = checked_path(source)
    if folder.name == "bundle.toml":
        folder = folder.parent
    if not _has_bundle(folder) and str(source) in packaged_bundles():
        folder = _PACKAGED / source
    path = folder / "bundle.toml"
    try:
        table = read_toml_file(path)
    except ValueError as error:
        remedy = "correct the file"
        raise BundleError("TOML", found=str(error), remedy=remedy, where=path) from error
    except OSError as error:
        raise BundleError(
            "a bundle: a folder with bundle.toml, or a packaged one: "
            + ", ".join(packaged_bundles()),
            found=error.strerror or str(error),
            remedy=f"pass {option('bundle', 'FOLDER')}",
            where=path,
        ) from error
    version = table.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise BundleError(
            f"a bundle of format {FORMAT} or older",
            found=f"format {version}",
            remedy="update viscera",
            where=path,
        )
    if version != FORMAT:
        problem = f"format = {version!r}"
        raise BundleError(
            f"format = {FORMAT}", found=problem, remedy="correct the file", where=path
        )
    bundle = replace(load_dataclass(Bundle, table, path, skip=("folder",)), folder=folder)
    _check_weights(bundle)
    return bundle


def weights_to_train(bundle: Bundle) -> Path:
    """The weights of a bundle as `viscera train` takes them.

    Args:
        bundle: packaged, or any other with such a file beside its network.

    Raises:
        BundleError: it has none.
    """
    path = bundle.model_path.parent / WEIGHTS
    if not path.is_file():
        raise BundleError(
            f"a bundle with {WEIGHTS} beside its network, such as default",
            found="none",
            remedy=f"begin with another, or pass {option('init')} a .safetensors file",
            where=path,
        )
    return path


def read_look(bundle: Bundle) -> Bundle | None:
    """The coarse network that looks first for a bundle; None where the bundle names none.

    Args:
        bundle: the fine network's.

    Raises:
        BundleError: missing or invalid, or not a network that could look first.
    """
    if bundle.look is None:
        return None
    name = bundle.look.bundle
    look = read_bundle((_PACKAGED if name in packaged_bundles() else bundle.folder) / name)
    if look.patch is None or look.look or look.input.orientation != bundle.input.orientation:
        raise BundleError(
            "[look] with a bundle that has [patch], no [look], and the orientation "
            f"{bundle.input.orientation}",
            found=f"{look.name}, which is not such",
            remedy="choose another bundle, or leave [look] out",
            where=bundle.folder / "bundle.toml",
        )
    return look


def _has_bundle(folder: Path) -> bool:
    """Whether bundle.toml lies there; a name that no file system holds has none."""
    try:
        return (folder / "bundle.toml").exists()
    except OSError:
        return False


def _check_weights(bundle: Bundle) -> None:
    path = bundle.model_path
    try:
        weights = read_file_bytes(path, most_bytes=MOST_WEIGHTS_BYTES)
    except (OSError, ValueError) as error:
        raise BundleError(
            "the network's file",
            found=getattr(error, "strerror", None) or str(error),
            remedy="put it there, or correct 'model.file'",
            where=path,
        ) from error
    if weights.startswith(_PICKLE_STARTS):
        raise BundleError(
            "an ONNX file",
            found="a pickle or zip archive",
            remedy="export the network to ONNX; viscera never unpickles",
            where=path,
        )
    if names_external_data(weights):
        raise BundleError(
            "weights in one ONNX file",
            found="weights that lie in other files, which the checksum does not cover",
            remedy="export the network with its weights inside",
            where=path,
        )
    digest = hashlib.sha256(weights).hexdigest()
    if digest != bundle.model.sha256.lower():
        raise BundleError(
            f"weights with sha256 {bundle.model.sha256[:16]}...",
            found=f"{digest[:16]}...",
            remedy="fetch the bundle again, or correct 'model.sha256' if you changed the network",
            where=path,
        )
