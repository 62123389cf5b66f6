"""Predictor: a bundle loaded once, applied to many scans. This is the one path of `viscera`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera import __version__
from viscera.bundle import Bundle, Precision
from viscera.bundles import read_bundle
from viscera.checks import SHEAR_LIMIT_DEG, check_volume
from viscera.engine import FallbackEngine, open_engine
from viscera.engine.protocol import Engine
from viscera.errors import NothingToSegmentError, UsageError
from viscera.findings import Finding
from viscera.grid import Grid, straighten
from viscera.grid.body import Box, body_box
from viscera.grid.grid import ScoreSlab
from viscera.grid.shear import labels_on
from viscera.memory import BASE_MB, segmenting_mb, straightening_mb
from viscera.postprocess import postprocess
from viscera.resources import available_mb, require, thread_count
from viscera.scoring import score_patches, score_slices
from viscera.stages import Progress, Stages
from viscera.volume import Labels, Segmentation, Volume


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
        with stages.stage("read"):
            volume = self._volume(source, affine, strict=strict)
            findings = [*volume.findings, *check_volume(volume, strict=strict)]
        with stages.stage("grid"):
            crop = self.bundle.input.crop == "body"
            straight, box, grid, need_mb = self._plan(volume, crop=crop)
        with stages.stage("load"):
            engine = self._loaded()
        with stages.stage("network") as tell, ThreadPoolExecutor(self.threads) as pool:
            labels: Labels = np.zeros(straight.shape, dtype=np.uint8, order="F")
            slabs = self._slabs(grid, straight.cropped(box), engine, pool, tell)
            grid.undo(slabs, self.bundle.label_ids, labels[box], map_over=pool.map)
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
            provenance=self._provenance(engine, grid, need_mb),
            stages=stages,
        )

    def score(self, volume: Volume) -> tuple[Grid, Iterator[ScoreSlab]]:
        """The network's scores on its own grid, as slabs along z, for those who want no labels.

        The grid covers all of the scan, whatever the bundle crops when it segments.

        Args:
            volume: one scan whose grid is not sheared.

        Raises:
            ResourceError: it needs more memory than the limit.
            BundleError: the weights cannot be run.
        """
        _, _, grid, _ = self._plan(volume, crop=False)

        def slabs() -> Iterator[ScoreSlab]:
            with ThreadPoolExecutor(self.threads) as pool:
                yield from self._slabs(grid, volume, self._loaded(), pool, lambda _done: None)

        return grid, slabs()

    def _slabs(
        self,
        grid: Grid,
        volume: Volume,
        engine: Engine,
        pool: Executor,
        tell: Callable[[float], None],
    ) -> Iterator[ScoreSlab]:
        bundle = self.bundle
        if bundle.patch:
            channels = len(bundle.labels)
            return score_patches(grid, volume.data, engine, bundle.patch, channels, pool, tell)
        assert bundle.slices is not None  # Bundle has one or the other
        return score_slices(grid, volume.data, engine, bundle.slices, tell)

    def made_by(self, settings: str = "") -> str:
        """What stands in every label file: version, a mark of all that shapes labels, network.

        Args:
            settings: what else than the bundle shapes them.
        """
        mark = hashlib.sha256(repr((replace(self.bundle, folder=Path()), settings)).encode())
        return f"viscera {__version__} {mark.hexdigest()[:16]} {self.bundle.name}"

    def _plan(self, volume: Volume, *, crop: bool) -> tuple[Volume, Box, Grid, float]:
        """The volume set upright, the box of it that is looked at, the network's grid on that box.

        And the memory that all of it will take, in MB.

        Raises:
            ResourceError: more than the limit.
        """
        held_mb = volume.data.nbytes / 1e6
        limit_mb = self.memory_limit_mb or available_mb() + BASE_MB + held_mb
        straight = volume
        if volume.affine.shear_deg > SHEAR_LIMIT_DEG:
            need_mb = straightening_mb(volume.data)
            require(need_mb, limit_mb, what="straightening", where=volume.name)
            straight = straighten(volume)
        box = body_box(straight) if crop else (slice(None), slice(None), slice(None))
        seen = straight.cropped(box)
        grid = Grid.fit(seen.shape, seen.affine, self.bundle)
        need_mb = segmenting_mb(self.bundle, straight.data, grid)
        need_mb += held_mb if straight is not volume else 0.0
        require(need_mb, limit_mb, what="this scan", where=volume.name)
        return straight, box, grid, need_mb

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
            from viscera.io import read_volume

            return read_volume(source, strict=strict, limit_mb=self.memory_limit_mb)
        return Volume.of(source, affine)

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine(
                self.bundle, self._engine_name, threads=self.threads, precision=self._precision
            )
        return self._engine

    def _provenance(self, engine: Engine, grid: Grid, need_mb: float) -> dict[str, Any]:
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
                "overlap": bundle.patch.overlap if bundle.patch else None,
            },
            "planned_mb": round(need_mb),
        }


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
