"""One series that lies in a folder becomes DICOM files for an archive."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from viscera.batch.options import BatchOptions
from viscera.batch.outputs import OutputOptions
from viscera.batch.plan import BatchCase
from viscera.batch.run import run_case
from viscera.io.output_types import OUTPUT_TYPES
from viscera.predictor import Predictor

SENT_TYPES = ("dicom_seg", "dicom_rtstruct")


@dataclass(frozen=True)
class SeriesOptions:
    """What is made of each series.

    Attributes:
        batch: what is done with it besides.
        types: of the files that are sent: dicom_seg, dicom_rtstruct.
    """

    batch: BatchOptions = field(default_factory=BatchOptions)
    types: tuple[str, ...] = SENT_TYPES

    def check(self, predictor: Predictor) -> None:
        """Check that the options go together, and that the network's results can be made.

        Args:
            predictor: the network.

        Raises:
            UsageError: they do not, or they cannot.
        """
        self.of_series("", overwrite=False).check(predictor)

    def of_series(self, uid: str, *, overwrite: bool) -> BatchOptions:
        """The options of a batch for one series.

        Args:
            uid: Series Instance UID.
            overwrite: replace results of the same series when it had fewer images.
        """
        types = (*self.batch.outputs.output_types, *self.types)
        outputs: OutputOptions = replace(
            self.batch.outputs, output_types=tuple(dict.fromkeys(types)), overwrite=overwrite
        )
        read = replace(self.batch.read, series=uid)
        return replace(self.batch, outputs=outputs, read=read)


def segment_series(
    scan: Path,
    uid: str,
    results: Path,
    predictor: Predictor,
    options: SeriesOptions,
    *,
    overwrite: bool = False,
) -> None:
    """Segment a series; its results are called after its UID, which tells nobody's name.

    Args:
        scan: folder of the series.
        uid: Series Instance UID.
        results: folder of all results.
        predictor: the network.
        options: what is made of it.
        overwrite: replace results of the same series when it had fewer images.

    Raises:
        VisceraError: the series fails.
    """
    case = BatchCase(scan, results / f"{uid}.nii.gz", uid, series=uid)
    result = run_case(case, predictor, options.of_series(uid, overwrite=overwrite))
    if result.error is not None:
        raise result.error


def files_to_send(uid: str, results: Path, options: SeriesOptions) -> list[Path]:
    """The files of a segmented series that go to an archive.

    Args:
        uid: Series Instance UID.
        results: folder of all results.
        options: what was made of it.
    """
    return [results / f"{uid}{OUTPUT_TYPES[name].suffix}" for name in options.types]
