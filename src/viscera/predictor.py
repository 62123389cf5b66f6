"""Predictor: a bundle loaded once, applied to many scans. This is the one path of `viscera`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera import __version__
from viscera.bundle import Bundle, Patch, Precision
from viscera.bundles import read_bundle
from viscera.checks import SHEAR_LIMIT_DEG, check_grid, check_values
from viscera.engine import FallbackEngine, open_engine
from viscera.engine.protocol import Engine
from viscera.errors import NothingToSegmentError, UsageError
from viscera.findings import Finding
from viscera.grid import Grid, straighten
from viscera.grid.grid import ScoreSlab
from viscera.grid.look import Box
from viscera.grid.shear import labels_on
from viscera.grid.walk import part, walk
from viscera.memory import Budget, reading_mb, straightening_mb
from viscera.postprocess import postprocess
from viscera.resources import thread_count
from viscera.scoring import score_patches, score_slices
from viscera.segmentation import Segmentation
from viscera.stages import Progress, Stages
from viscera.volume import Volume, blank_labels


class Predictor:
    """Segments CT volumes with one bundle.

    Example:
        predictor = viscera.Predictor("path/to/bundle")
        segmentation = predictor.segment("ct.nii.gz")
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        engine: str | Engine = "auto",
        threads: int | None = None,
        memory_limit_mb: float | None = None,
        precision: Precision | None = None,
        overlap: float | None = None,
    ) -> None:
        """Check the bundle; the network itself is loaded with the first scan.

        Args:
            bundle: a bundle's folder, the name of a packaged one, or a Bundle.
            engine: auto, openvino or onnxruntime; or a network that is loaded already.
            threads: CPU threads; all that the process may use where not given.
            memory_limit_mb: most memory the process may take; what is free where not given.
            precision: f32 or bf16; the fastest that bundle and CPU allow where not given.
            overlap: share of a patch that neighbours share; the bundle's where not given.

        Raises:
            BundleError: the bundle is invalid.
            UsageError: an option is out of range.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        if overlap is not None and not 0 <= overlap < 1:
            raise UsageError(
                "an overlap from 0 to below 1", found=f"{overlap:g}", remedy="choose another value"
            )
        if precision not in (None, "f32", "bf16"):
            raise UsageError(
                "precision f32 or bf16", found=repr(precision), remedy="choose another value"
            )
        if overlap is not None and self.bundle.patch is not None:
            patch = replace(self.bundle.patch, overlap=overlap)
            self.bundle = replace(self.bundle, patch=patch)
        self.threads = thread_count(threads)
        self.memory_limit_mb = memory_limit_mb
        self._engine_name, self._precision = "auto", precision
        self._engine: Engine | None = None
        if isinstance(engine, str):
            self._engine_name = engine
        else:
            self._engine = engine

    def segment(
        self,
        source: Any,
        affine: Any = None,
        *,
        strict: bool = False,
        progress: Progress | None = None,
        stages: Stages | None = None,
    ) -> Segmentation:
        """Find the organs in one scan.

        Args:
            source: a path, a Volume, a nibabel image, or an [i, j, k] array of HU.
            affine: (4, 4) matrix to RAS millimetres; for arrays only.
            strict: raise where something would be assumed or nothing is found.
            progress: called with the stage's name and the share done.
            stages: measures the stages; a new one where not given.

        Returns:
            The labels on the scan's own grid, with findings and provenance.

        Raises:
            InputError: no CT volume.
            UsageError: an affine along with something that has its own.
            ResourceError: it needs more memory than the limit.
            BundleError: the weights cannot be run.
            NothingToSegmentError: no organ was found, when strict.
        """
        stages = stages or Stages(progress=progress)
        with ThreadPoolExecutor(self.threads) as pool, ThreadPoolExecutor(1) as beside:
            with stages.stage("read") as tell:
                volume = self._volume(source, affine, strict=strict)
                findings = [*volume.findings, *check_grid(volume, strict=strict)]
                straight = _straight(volume, self._budget(volume))
                grid = self._fit(straight)
                loading = beside.submit(self._loaded)  # reading leaves a core free
                planes, look = walk(straight, grid, findings, map_over=pool.map, tell=tell)
                findings += check_values(look.hu, where=volume.name)
                box = grid.covering(look.box(in_plane=self.bundle.input.crop == "body"))
                planes = part(planes, box)
            with stages.stage("load"):
                engine = loading.result()
                patch, need_mb = self._budget(straight).windows(grid, box, engine.precision)
            with stages.stage("network") as tell:
                labels = blank_labels(straight.shape)
                slabs = self._slabs(planes, grid.lowest, engine, patch, pool, tell)
                grid.undo(slabs, self.bundle.label_ids, labels, box=box, map_over=pool.map)
                engine.rest()
                del planes
        with stages.stage("postprocess"):
            findings += postprocess(labels, straight.affine, self.bundle.postprocess)
            if straight is not volume:
                labels = labels_on(volume, labels, straight.affine)
        if isinstance(engine, FallbackEngine):
            findings += engine.findings
        if self.bundle.about.warning:
            findings.append(Finding("warning", "bundle", self.bundle.about.warning))
        if not labels.any():
            findings.append(_nothing_found(volume, strict=strict))
        return Segmentation(
            labels=labels,
            volume=volume,
            organs=self.bundle.organs,
            findings=tuple(findings),
            provenance=self._provenance(engine, grid, box, patch, need_mb),
            stages=stages,
        )

    def score(self, volume: Volume) -> tuple[Grid, Iterator[ScoreSlab]]:
        """The network's scores on its own grid, as slabs along z, for those who want no labels.

        They cover all of the scan, whatever the bundle leaves out when it segments.

        Args:
            volume: one scan whose grid is not sheared.

        Raises:
            InputError: the file is damaged.
            ResourceError: it needs more memory than the limit.
            BundleError: the weights cannot be run.
        """
        grid = self._fit(volume)
        planes, _ = walk(volume, grid, [])
        box = slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2])
        engine = self._loaded()
        patch, _ = self._budget(volume).windows(grid, box, engine.precision)

        def slabs() -> Iterator[ScoreSlab]:
            with ThreadPoolExecutor(self.threads) as pool:
                yield from self._slabs(planes, grid.lowest, engine, patch, pool)

        return grid, slabs()

    def _fit(self, volume: Volume) -> Grid:
        """The network's grid on a scan.

        Raises:
            ResourceError: filling it takes more than there is.
        """
        grid = Grid.fit(volume.shape, volume.affine, self.bundle)
        self._budget(volume).require(reading_mb(volume, grid))
        return grid

    def _budget(self, volume: Volume) -> Budget:
        return Budget(self.bundle, volume, self.memory_limit_mb)

    def _slabs(
        self,
        planes: NDArray[np.float32],
        outside: float,
        engine: Engine,
        patch: Patch | None,
        pool: Executor,
        tell: Callable[[float], None] = lambda _done: None,
    ) -> Iterator[ScoreSlab]:
        if patch:
            return score_patches(planes, engine, patch, outside, pool, tell)
        assert self.bundle.slices is not None  # Bundle has one or the other
        return score_slices(planes, engine, self.bundle.slices, outside, pool, tell)

    def made_by(self, settings: str = "") -> str:
        """What stands in every label file: version, a mark of all that shapes labels, network.

        Args:
            settings: what else than the bundle shapes them.
        """
        mark = hashlib.sha256(repr((replace(self.bundle, folder=Path()), settings)).encode())
        return f"viscera {__version__} {mark.hexdigest()[:16]} {self.bundle.name}"

    def _volume(self, source: Any, affine: Any, *, strict: bool) -> Volume:
        has_its_own = isinstance(source, str | Path | Volume) or hasattr(source, "dataobj")
        if affine is not None and has_its_own:
            raise UsageError(
                "an affine along with an array only",
                found=f"one along with a {type(source).__name__}",
                remedy="leave affine out; the source has its own",
            )
        if isinstance(source, str | Path):
            # Imported here: a caller with arrays needs no reader.
            from viscera.io import open_volume

            return open_volume(
                source, strict=strict, limit_mb=self.memory_limit_mb, threads=self.threads
            )
        return Volume.of(source, affine)

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine(
                self.bundle, self._engine_name, threads=self.threads, precision=self._precision
            )
        return self._engine

    def _provenance(
        self, engine: Engine, grid: Grid, box: Box, patch: Patch | None, need_mb: float
    ) -> dict[str, Any]:
        bundle = self.bundle
        return {
            "made_by": self.made_by(),
            "bundle": {
                "name": bundle.name,
                "sha256": bundle.model.sha256,
                "licence": bundle.about.licence,
                "intended_use": bundle.about.intended_use,
            },
            "engine": {
                "name": engine.name,
                "version": engine.version,
                "precision": engine.precision,
                "threads": self.threads,
            },
            "grid": {
                "orientation": bundle.input.orientation,
                "shape_zyx": list(grid.shape),
                "spacing_mm_zyx": [round(s, 6) for s in grid.spacing_mm],
                "looked_at_zyx": [[part.start, part.stop] for part in box],
                "window_xyz": list(patch.size) if patch else None,
                "overlap": patch.overlap if patch else None,
            },
            "planned_mb": round(need_mb),
        }


def _straight(volume: Volume, budget: Budget) -> Volume:
    """The volume on a rectangular grid.

    Raises:
        ResourceError: that takes more than there is.
    """
    if volume.affine.shear_deg <= SHEAR_LIMIT_DEG:
        return volume
    budget.require(straightening_mb(volume), "straightening")
    return straighten(volume)


def _nothing_found(volume: Volume, *, strict: bool) -> Finding:
    if strict:
        raise NothingToSegmentError(
            "an abdominal CT",
            found="no abdomen: not one organ",
            remedy="check that this is a CT of the abdomen",
            where=volume.name,
        )
    return Finding(
        "warning",
        "no-abdomen",
        "no abdomen found: the labels are empty",
        "check that this is a CT of the abdomen, in HU",
    )
