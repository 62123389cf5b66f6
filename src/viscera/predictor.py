"""Predictor: a bundle loaded once, applied to many scans. This is the one path of viscera."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

from viscera._version import __version__
from viscera.bundle.read import read_bundle, read_look
from viscera.bundle.spec import Bundle, Precision
from viscera.core.boxes import Box, whole_box
from viscera.core.organ_quality import OrganQuality
from viscera.core.volume import Labels, Volume, blank_labels
from viscera.engine.protocol import Engine
from viscera.engine.select import FallbackEngine
from viscera.errors import DoubtfulResultError, NothingToSegmentError, UsageError, option
from viscera.examine.coverage import cut_findings
from viscera.examine.examine import examine_scan
from viscera.findings import Finding
from viscera.grid.grid import Grid
from viscera.grid.shear import labels_to_sheared, straighten
from viscera.grid.slab_windows import ScoreSlab
from viscera.inference.first_look import FirstLook
from viscera.inference.memory_plan import MemoryPlan, WindowPlan, straighten_peak_mb
from viscera.inference.network import Network
from viscera.inference.windows import widen_to_windows
from viscera.inputs import AffineLike, VolumeSource, as_volume
from viscera.localise.ct_checks import SHEAR_LIMIT_DEG, check_grid, check_values
from viscera.localise.organs_seen import LookAgreement, OrgansSeen
from viscera.localise.outside_body import clear_outside_body
from viscera.localise.preprocess import crop_to_box, preprocess
from viscera.postprocess.chain import postprocess
from viscera.quality.features import organ_features
from viscera.quality.score_evidence import ScoreWitness
from viscera.quality.verdict import judge_organs
from viscera.runtime.digests import digest_of
from viscera.runtime.resources import thread_count
from viscera.runtime.stages import Progress, Stages
from viscera.segmentation import Segmentation, cut_organs


class Predictor:
    """Segments CT volumes with one bundle; several threads may share one predictor.

    Attributes:
        bundle: the network and its settings.
        threads: CPU threads.
        memory_limit_mb: most memory the process may take; None for what is free.
        engine_name: as it was asked for.
        precision: as it was asked for; None for the fastest.
        low_memory: windows are no larger than the bundle's.

    Example:
        predictor = viscera.Predictor("path/to/bundle")
        segmentation = predictor.segment("ct.nii.gz")
    """

    def __init__(
        self,
        bundle: str | Path | Bundle = "default",
        *,
        engine: str | Engine = "auto",
        threads: int | None = None,
        memory_limit_mb: float | None = None,
        precision: Precision | None = None,
        overlap: float | None = None,
        low_memory: bool = False,
    ) -> None:
        """Check the bundle; the network itself is loaded with the first scan.

        Args:
            bundle: the folder of a bundle, the name of a packaged one, or a Bundle.
            engine: auto, openvino or onnxruntime; or a network that is loaded already.
            threads: CPU threads; all that the process may use where not given.
            memory_limit_mb: most memory the process may take; what is free where not given.
            precision: f32 or bf16; where not given, bf16 if the bundle allows it and the CPU
                computes in it.
            overlap: share of a window that neighbours share; that of the bundle where not given.
            low_memory: windows no larger than the bundle's, whose labels differ a little.

        Raises:
            BundleError: the bundle is invalid.
            UsageError: an option is out of range.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        if precision not in (None, "f32", "bf16"):
            raise UsageError(
                "precision f32 or bf16", found=repr(precision), remedy="choose another value"
            )
        if overlap is not None and not 0 <= overlap < 1:
            raise UsageError(
                "an overlap from 0 to below 1", found=f"{overlap:g}", remedy="choose another value"
            )
        if overlap is not None and self.bundle.patch is not None:
            patch = replace(self.bundle.patch, overlap=overlap)
            self.bundle = replace(self.bundle, patch=patch)
        look = read_look(self.bundle)
        self.threads = thread_count(threads)
        self.memory_limit_mb = memory_limit_mb
        self.precision = precision
        self.low_memory = low_memory
        self.engine_name = engine if isinstance(engine, str) else "auto"
        self._network = Network(self.bundle, engine, threads=self.threads, precision=precision)
        self._look: FirstLook | None = None
        if look is not None and self.bundle.look is not None:
            coarse = Network(look, self.engine_name, threads=self.threads, precision=precision)
            self._look = FirstLook(coarse, self.bundle.look)
        # Threads may share a predictor: scans are read side by side, one network runs at a time.
        self._running = RLock()

    def segment(
        self,
        source: VolumeSource,
        affine: AffineLike | None = None,
        *,
        strict: bool = False,
        on_progress: Progress | None = None,
        stages: Stages | None = None,
    ) -> Segmentation:
        """Find the organs in one scan.

        Args:
            source: a path, a Volume, a nibabel image, or an [i, j, k] array of HU.
            affine: (4, 4) matrix to RAS millimetres; for arrays only.
            strict: raise where something would be assumed or nothing is found.
            on_progress: called with the name of the stage and the share done.
            stages: measures the stages; a new one where not given.

        Returns:
            The labels on the scan's own grid, with findings and provenance.

        Raises:
            InputError: no CT volume.
            UsageError: an affine along with a source that has its own.
            ResourceError: it needs more memory than the limit.
            BundleError: the weights cannot be run.
            NothingToSegmentError: no organ was found, when strict.
            DoubtfulResultError: the verdict on an organ is fail, when strict.
        """
        stages = stages or Stages(on_progress=on_progress)
        with ThreadPoolExecutor(self.threads) as pool, ThreadPoolExecutor(1) as loader:
            with stages.stage("read") as on_share:
                volume = as_volume(
                    source,
                    affine,
                    strict=strict,
                    memory_limit_mb=self.memory_limit_mb,
                    threads=self.threads,
                )
                findings = [*volume.findings, *check_grid(volume, strict=strict)]
                upright = self._upright(volume)
                memory_plan = self._memory_plan(upright)
                memory_plan.require_reading()
                grids = memory_plan.grids
                loading = loader.submit(self._load)  # reading leaves a core free
                scan = preprocess(upright, grids, map_over=pool.map, on_progress=on_share)
                findings += upright.findings[len(volume.findings) :]
                findings += scan.findings
                overview = scan.overview
                checking = pool.submit(check_values, overview.hu, where=volume.name, strict=strict)
                body = organs = overview.box(whole_length=not self.bundle.has_thirteen_organs)
                look_mb, seen = 0.0, None
                hu_findings = checking.result()
                findings += hu_findings
            with stages.stage("load"):
                engine = loading.result()
            if self._look is not None:
                with self._running, stages.stage("look") as on_share:
                    look = self._look.search(
                        scan.planes[1],
                        grids[1],
                        body,
                        memory_plan,
                        pool=pool,
                        on_progress=on_share,
                    )
                organs, findings = look.organs, [*findings, *look.findings]
                look_mb, seen = look.need_mb, look.seen
            grid = grids[0]
            box = self._box(grid, organs, body)
            planes = crop_to_box(scan.planes[0], box)
            del scan  # the memory of all that lies outside the box
            plan = memory_plan.plan_windows(
                grid, box, engine.precision, organs=grid.covering(organs)
            )
            plan = plan._replace(need_mb=max(plan.need_mb, look_mb))
            with self._running, stages.stage("network") as on_share:
                labels = blank_labels(upright.shape)
                slabs = self._network.scores(
                    planes,
                    plan.patch,
                    air_value=grid.air_value,
                    pool=pool,
                    on_progress=on_share,
                )
                witness = ScoreWitness(grid, self.bundle.label_ids)
                slabs = witness.pass_through(slabs, planes, map_over=pool.map)
                grid.undo(slabs, self.bundle.label_ids, labels, box=box, map_over=pool.map)
                engine.release_memory()
                del planes
        with stages.stage("postprocess"):
            cleaned = postprocess(
                labels,
                upright.affine,
                self.bundle.postprocess,
                self.bundle.label_table,
                clear_outside=partial(clear_outside_body, labels, overview),
            )
            findings += cleaned.findings
        on_grid = labels  # of the scan itself; a straightened one has air around it
        if upright is not volume:
            on_grid = labels_to_sheared(labels, upright.affine, volume)
        with stages.stage("quality"):
            features = organ_features(
                self.bundle.organs,
                witness.organs(),
                cleaned.pieces,
                None if seen is None else self._agreement(seen, labels),
                affine=upright.affine,
                shape=upright.shape,
                cut_organs=cut_organs(on_grid, self.bundle.organs),
                doubtful_hu=bool(hu_findings),
            )
            examination = examine_scan(
                overview,
                labels,
                upright.affine,
                features,
                cut_findings=cut_findings(on_grid, volume.affine, self.bundle.organs),
                slices=(volume.shape[volume.affine.slice_axis], volume.affine.plane_distance_mm),
                table=self.bundle.label_table,
            )
            findings += examination.findings
            quality = judge_organs(
                features,
                network=self.bundle.name,
                doubts={finding.code for finding in examination.findings},
                table=self.bundle.label_table,
            )
        labels = on_grid
        findings += self._result_findings(engine, labels, volume, strict=strict)
        if strict:
            _require_trust(quality, volume)
        return Segmentation(
            labels=labels,
            volume=volume,
            organs=self.bundle.organs,
            label_table=self.bundle.label_table,
            quality=quality,
            examination=examination,
            findings=tuple(findings),
            provenance=self._provenance(engine, grid, box, plan),
            stages=stages,
        )

    def predict_scores(self, volume: Volume) -> tuple[Grid, Iterator[ScoreSlab]]:
        """The network's scores on its own grid, for callers that want no labels.

        They cover all of the scan, whatever the bundle leaves out when it segments.

        Args:
            volume: one scan whose grid is not sheared.

        Returns:
            The grid, and slabs of scores along z.

        Raises:
            InputError: the file is damaged.
            ResourceError: it needs more memory than the limit.
            BundleError: the weights cannot be run.
        """
        memory_plan = self._memory_plan(volume, looks=False)
        memory_plan.require_reading()
        (grid,) = memory_plan.grids
        (planes,) = preprocess(volume, [grid]).planes
        precision = self._network.load().precision
        plan = memory_plan.plan_windows(grid, whole_box(grid.shape), precision)

        def slabs() -> Iterator[ScoreSlab]:
            with self._running, ThreadPoolExecutor(self.threads) as pool:
                yield from self._network.scores(
                    planes, plan.patch, air_value=grid.air_value, pool=pool
                )

        return grid, slabs()

    def signature(self, settings: object = None) -> str:
        """What was asked for: version, and a digest of bundle and settings.

        With the same engine, precision and threads, the same signature gives the same labels.

        Args:
            settings: what else shapes labels: the scan's digest, how it is read.
        """
        options = [self.engine_name, self.precision, self.low_memory]
        networks = [self._network, *([self._look.network] if self._look else [])]
        bundles = [network.bundle.identity() for network in networks]
        digest = digest_of(bundles, options, settings)
        return f"viscera {__version__} {digest[:12]}"

    def _upright(self, volume: Volume) -> Volume:
        """The volume on a rectangular grid; the very same where it is not sheared.

        Raises:
            ResourceError: resampling takes more than the limit.
        """
        if volume.affine.shear_deg <= SHEAR_LIMIT_DEG:
            return volume
        self._memory_plan(volume).require(straighten_peak_mb(volume), "straightening")
        return straighten(volume)

    def _memory_plan(self, volume: Volume, *, looks: bool = True) -> MemoryPlan:
        """What may be taken for a scan, with the grids of all networks on it."""
        grids = [Grid.fit(volume.shape, volume.affine, self.bundle)]
        if self._look is not None and looks:
            grids.append(self._look.grid(volume))
        return MemoryPlan(self.bundle, volume, self.memory_limit_mb, self.low_memory, tuple(grids))

    def _agreement(self, seen: OrgansSeen, labels: Labels) -> dict[int, LookAgreement] | None:
        """How labels agree with the first look; None where their numbers mean other structures."""
        look = self._look
        if look is None or look.network.bundle.label_table != self.bundle.label_table:
            return None
        return seen.agreement(labels)

    def _load(self) -> Engine:
        """Load all networks; the engine of the bundle's own."""
        if self._look is not None:
            self._look.network.load()
        return self._network.load()

    def _box(self, grid: Grid, organs: Box, body: Box) -> Box:
        """The part [z, y, x] of the grid that the network sees, of boxes in voxels of the scan."""
        z, y, x = grid.covering(organs)
        if self.bundle.patch is not None:
            z, y, x = widen_to_windows(
                (z, y, x), grid.covering(body), self.bundle.patch, low_memory=self.low_memory
            )
        if self.bundle.input.crop == "body":
            return z, y, x
        return (z, *whole_box(grid.shape)[1:])  # whole slices, whatever lies in them

    def _result_findings(
        self, engine: Engine, labels: Labels, volume: Volume, *, strict: bool
    ) -> list[Finding]:
        """What there is to say about a finished result.

        Raises:
            NothingToSegmentError: no organ was found, when strict.
        """
        findings = list(engine.findings) if isinstance(engine, FallbackEngine) else []
        if self.bundle.about.warning:
            findings.append(Finding("warning", "bundle", self.bundle.about.warning))
        if labels.any():
            return findings
        if not self.bundle.has_thirteen_organs:
            message = "none of the network's structures was found: the labels are empty"
            hint = "check that this is a CT of the part of the body that the network knows, in HU"
            if strict:
                names = ", ".join(organ.name for organ in self.bundle.organs[:8])
                raise NothingToSegmentError(
                    f"a CT that shows structures of {self.bundle.name}, such as {names}",
                    found="none of them",
                    remedy="check that the network is meant for this part of the body",
                    where=volume.name,
                )
            return [*findings, Finding("warning", "nothing-found", message, hint)]
        if strict:
            raise NothingToSegmentError(
                "an abdominal CT",
                found="no abdomen: not one organ",
                remedy="check that this is a CT of the abdomen",
                where=volume.name,
            )
        message = "no abdomen found: the labels are empty"
        hint = "check that this is a CT of the abdomen, in HU"
        return [*findings, Finding("warning", "no-abdomen", message, hint)]

    def _provenance(self, engine: Engine, grid: Grid, box: Box, plan: WindowPlan) -> dict[str, Any]:
        bundle, patch = self.bundle, plan.patch
        window = "x".join(map(str, patch.size)) if patch else "slices"
        return {
            "signature": self.signature(),
            # Beside the signature in every label file: what computed these very labels.
            "computed_by": (
                f"{engine.name}-{engine.version} {engine.precision} t{self.threads} {window} "
                f"{bundle.name}"
            ),
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
            "planned_mb": round(plan.need_mb),
        }


def _require_trust(quality: Mapping[str, OrganQuality], volume: Volume) -> None:
    """Refuse a result with an organ that failed.

    Raises:
        DoubtfulResultError: the verdict on an organ is fail.
    """
    failed = [of.organ for of in quality.values() if of.verdict == "fail"]
    if failed:
        raise DoubtfulResultError(
            "organs that can be trusted",
            found=f"the verdict fail on {', '.join(failed)}",
            remedy=f"look at the scan, or leave out {option('strict')}",
            where=volume.name,
        )


def segment(
    source: VolumeSource,
    affine: AffineLike | None = None,
    *,
    bundle: str | Path | Bundle = "default",
    engine: str = "auto",
    threads: int | None = None,
    memory_limit_mb: float | None = None,
    precision: Precision | None = None,
    overlap: float | None = None,
    low_memory: bool = False,
    strict: bool = False,
    on_progress: Progress | None = None,
) -> Segmentation:
    """Find the organs in one scan; for many scans, keep a `Predictor`.

    Args:
        source: a path, a Volume, a nibabel image, or an [i, j, k] array of HU.
        affine: (4, 4) matrix to RAS millimetres; for arrays only.
        bundle: the folder of a bundle, the name of a packaged one, or a Bundle.
        engine: auto, openvino or onnxruntime.
        threads: CPU threads; all that the process may use where not given.
        memory_limit_mb: most memory the process may take; what is free where not given.
        precision: f32 or bf16; where not given, bf16 if the bundle allows it and the CPU computes
            in it.
        overlap: share of a window that neighbours share; that of the bundle where not given.
        low_memory: windows no larger than the bundle's, whose labels differ a little.
        strict: raise where something would be assumed or nothing is found.
        on_progress: called with the name of the stage and the share done.

    Returns:
        The labels on the scan's own grid, with findings and provenance.

    Raises:
        VisceraError: see `Predictor` and `Predictor.segment`.
    """
    predictor = Predictor(
        bundle,
        engine=engine,
        threads=threads,
        memory_limit_mb=memory_limit_mb,
        precision=precision,
        overlap=overlap,
        low_memory=low_memory,
    )
    return predictor.segment(source, affine, strict=strict, on_progress=on_progress)
