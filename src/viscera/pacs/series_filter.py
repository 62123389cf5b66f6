"""Which series of an archive are meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from viscera.errors import UsageError, option

_DATE_RANGE = re.compile(r"(\d{8})?(-)?(\d{8})?")


@dataclass(frozen=True)
class RemoteSeries:
    """A series that a server has, as QIDO-RS describes it (PS3.18 10.6).

    Attributes:
        study: Study Instance UID.
        uid: Series Instance UID.
        modality: such as CT.
        images: how many there are; 0 where the server does not say.
        date: of the study, YYYYMMDD.
        study_description: of the study.
        description: of the series.
    """

    study: str
    uid: str
    modality: str = ""
    images: int = 0
    date: str = ""
    study_description: str = ""
    description: str = ""


@dataclass(frozen=True)
class SeriesFilter:
    """Which series are taken.

    Attributes:
        date: of the study: YYYYMMDD, or a range such as 20260101-20260131, 20260101- or -20260131.
        study: Study Instance UID.
        series: Series Instance UID.
        patient: Patient ID.
        description: pattern for the description of series or study, such as ``*abdomen*``; case
            does not count.
        modality: of the series.
        least_images: series of fewer images are passed over, such as scouts.
    """

    date: str = ""
    study: str = ""
    series: str = ""
    patient: str = ""
    description: str = ""
    modality: str = "CT"
    least_images: int = 10

    def check(self) -> None:
        """Check the date, which servers would else take as they like.

        Raises:
            UsageError: it is no date and no range.
        """
        match = _DATE_RANGE.fullmatch(self.date)
        is_range = match and (not match[3] or match[2]) and self.date != "-"
        if self.date and not is_range:
            raise UsageError(
                "a date such as 20260131, or a range such as 20260101-20260131",
                found=f"{option('date')} {self.date!r}",
                remedy="write it so",
            )

    def study_query(self) -> dict[str, str]:
        """What a server is asked for; other conditions are looked at here."""
        query = {
            "StudyDate": self.date,
            "StudyInstanceUID": self.study,
            "PatientID": self.patient,
            "ModalitiesInStudy": self.modality,
        }
        return {name: value for name, value in query.items() if value}

    def takes(self, series: RemoteSeries) -> bool:
        """Whether a series is meant.

        Args:
            series: of a study that the query found.
        """
        pattern = self.description.casefold()
        texts = (series.description.casefold(), series.study_description.casefold())
        return (
            (not self.series or series.uid == self.series)
            and (not self.modality or series.modality == self.modality)
            and (not pattern or any(fnmatchcase(text, pattern) for text in texts))
            and (not series.images or series.images >= self.least_images)
        )
