"""What is done with the scans of a batch, and what comes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from viscera.batch.outputs import OutputOptions
from viscera.batch.plan import BatchCase
from viscera.core.organs import Organ
from viscera.core.volume import Volume
from viscera.dicom.write.seg import require_codes
from viscera.errors import UsageError, VisceraError, option
from viscera.inputs import as_volume
from viscera.predictor import Predictor
from viscera.runtime.stages import Progress


@dataclass(frozen=True)
class ReadOptions:
    """How scans are read; all of it shapes the labels.

    Attributes:
        volume_index: which volume of a 4-D NIfTI, counted from 0.
        series: DICOM only: Series Instance UID of the one to take.
        allow_bad_slices: DICOM only: slices that cannot be read are filled.
        hu_offset: added to every voxel.
        strict: refuse where something would have to be assumed, or nothing is found.
    """

    volume_index: int | None = None
    series: str | None = None
    allow_bad_slices: bool = False
    hu_offset: float = 0.0
    strict: bool = False

    def open(
        self, source: Path, predictor: Predictor, *, name: str, series: str | None = None
    ) -> Volume:
        """Read a scan within the limits of a predictor.

        Args:
            source: the scan.
            predictor: that will segment it.
            name: of the case.
            series: DICOM only: the one to take where it is known already.

        Raises:
            VisceraError: see `as_volume`.
        """
        return as_volume(
            source,
            name=name,
            volume_index=self.volume_index,
            series=series or self.series,
            allow_bad_slices=self.allow_bad_slices,
            strict=self.strict,
            memory_limit_mb=predictor.memory_limit_mb,
            threads=predictor.threads,
        ).shifted(self.hu_offset)


@dataclass(frozen=True)
class BatchOptions:
    """What is done with every case of a batch.

    Attributes:
        organs: organs to keep; all where empty.
        read: how scans are read.
        outputs: which files a case leaves.
        keep_phi: DICOM only: names of results and reports may identify the patient.
    """

    organs: tuple[Organ, ...] = ()
    read: ReadOptions = field(default_factory=ReadOptions)
    outputs: OutputOptions = field(default_factory=OutputOptions)
    keep_phi: bool = False

    def check(self, predictor: Predictor) -> None:
        """Check that the options go together, and that the network finds these organs.

        Raises:
            UsageError: they do not, or it does not; or DICOM SEG of structures without codes.
        """
        if self.outputs.labelmap and "dicom_seg" not in self.outputs.output_types:
            raise UsageError(
                f"{option('output_types', 'dicom_seg')} beside {option('labelmap')}",
                found="none",
                remedy="add it, or leave the other out",
            )
        for organ in self.organs:
            if organ not in predictor.bundle.organs:
                raise UsageError(
                    "organs of this bundle",
                    found=f"{organ.name!r}, which {predictor.bundle.name} does not find",
                    remedy="see 'viscera info'",
                )
        if "dicom_seg" in self.outputs.output_types:
            require_codes(self.organs_of(predictor))

    def organs_of(self, predictor: Predictor) -> tuple[Organ, ...]:
        """The organs that results are about."""
        return self.organs or predictor.bundle.organs


@dataclass(frozen=True)
class CaseResult:
    """The outcome of a case.

    Attributes:
        case: the scan.
        report: of the run; None where it was finished before or failed.
        error: why it failed.
    """

    case: BatchCase
    report: dict[str, Any] | None = None
    error: VisceraError | None = None

    @property
    def was_finished(self) -> bool:
        """Whether an earlier run had done it."""
        return self.report is None and self.error is None


@contextmanager
def _no_progress(_case: BatchCase) -> Iterator[Progress | None]:
    yield None


@dataclass(frozen=True)
class BatchCallbacks:
    """Functions that are called during the work; by default they do nothing.

    Attributes:
        progress: opens a context around each case, which gives the function that takes the name
            of the stage and the share done.
        on_result: takes the result of each case.
    """

    progress: Callable[[BatchCase], AbstractContextManager[Progress | None]] = _no_progress
    on_result: Callable[[CaseResult], None] = lambda _result: None
