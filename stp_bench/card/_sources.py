"""Where a data set comes from, on what terms, and what to cite."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from stp_annotations import releases
from stp_bench import real
from stp_bench.index import Dataset

APACHE = "Apache-2.0"
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A publication to cite."""

    key: str
    authors: tuple[str, ...]
    """Family name, given name."""
    title: str
    venue: str
    year: int

    @property
    def bibtex(self) -> str:
        """Its entry, on one line."""
        fields = {
            "author": " and ".join(self.authors), "title": f"{{{self.title}}}", "booktitle": self.venue,
            "year": self.year,
        }  # fmt: skip
        return f"@inproceedings{{{self.key}, {', '.join(f'{name}={{{value}}}' for name, value in fields.items())}}}"

    @property
    def text(self) -> str:
        """Its reference, as a sentence."""
        return f"{self.authors[0].partition(',')[0]} et al.: {self.title}. {self.venue}, {self.year}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Origin and terms."""

    videos: str
    labels: str
    url: str
    license: str
    label_license: str
    published: str
    """Year, or day, in which videos and labels were both there."""
    cite: tuple[Work, ...]

    @property
    def terms(self) -> str:
        """Licenses of the whole and of its labels, in one line."""
        same = self.license == self.label_license
        return self.license if same else f"{self.license}; of the labels: {self.label_license}"


STPRIVACY = Work(
    key="li2023stprivacy",
    authors=(
        "Li, Ming", "Xu, Xiangyu", "Fan, Hehe", "Zhou, Pan", "Liu, Jun", "Liu, Jia-Wei", "Li, Jiahe", "Keppo, Jussi",
        "Shou, Mike Zheng", "Yan, Shuicheng",
    ),
    title="STPrivacy: Spatio-Temporal Privacy-Preserving Action Recognition",
    venue="IEEE/CVF International Conference on Computer Vision (ICCV)",
    year=2023,
)  # fmt: skip
_VIDEOS = {
    "HMDB51": Work(
        key="kuehne2011hmdb",
        authors=("Kuehne, Hildegard", "Jhuang, Hueihan", "Garrote, Estíbaliz", "Poggio, Tomaso", "Serre, Thomas"),
        title="HMDB: A Large Video Database for Human Motion Recognition",
        venue="IEEE International Conference on Computer Vision (ICCV)",
        year=2011,
    ),
    "UCF101": Work(
        key="soomro2012ucf101",
        authors=("Soomro, Khurram", "Zamir, Amir Roshan", "Shah, Mubarak"),
        title="UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild",
        venue="CRCV-TR-12-01, University of Central Florida",
        year=2012,
    ),
    "CelebV-HQ": Work(
        key="zhu2022celebvhq",
        authors=(
            "Zhu, Hao", "Wu, Wayne", "Zhu, Wentao", "Jiang, Liming", "Tang, Siwei", "Zhang, Li", "Liu, Ziwei",
            "Loy, Chen Change",
        ),
        title="CelebV-HQ: A Large-Scale Video Facial Attributes Dataset",
        venue="European Conference on Computer Vision (ECCV)",
        year=2022,
    ),
    "HVU": Work(
        key="diba2020hvu",
        authors=(
            "Diba, Ali", "Fayyaz, Mohsen", "Sharma, Vivek", "Paluri, Manohar", "Gall, Juergen",
            "Stiefelhagen, Rainer", "Van Gool, Luc",
        ),
        title="Large Scale Holistic Video Understanding",
        venue="European Conference on Computer Vision (ECCV)",
        year=2020,
    ),
}  # fmt: skip
"""By source of the videos."""
_LABELS = {
    "ming1993li/stprivacy": STPRIVACY,
    "VITA-Group/PA-HMDB51": Work(
        key="wu2020privacy",
        authors=("Wu, Zhenyu", "Wang, Haotao", "Wang, Zhaowen", "Jin, Hailin", "Wang, Zhangyang"),
        title="Privacy-Preserving Deep Action Recognition: An Adversarial Learning Framework and A New Dataset",
        venue="IEEE Transactions on Pattern Analysis and Machine Intelligence (TPAMI)",
        year=2020,
    ),
}
"""By repository of the labels, where they are published apart from the videos."""


def source_of(dataset: Dataset) -> Source:
    """Origin and terms of a data set: of embedded ones ours, of real ones what is known of them."""
    made = datetime.fromtimestamp((dataset.root / "index.json").stat().st_mtime, UTC).date().isoformat()
    if dataset.benchmark.embedded:
        return Source(
            videos="drawn by stp-bench from a seed: no real person, voice or place was used",
            labels="drawn before the videos, which then show them; nobody annotated them",
            url=_urn(dataset),
            license=APACHE,
            label_license=APACHE,
            published=made,
            cite=(STPRIVACY,),
        )
    about = dataset.manifest.get("labels") or {}
    release = releases().get(str(about.get("release")))
    repository = f"https://github.com/{release.repository}" if release else ""
    kind = real.find(dataset.name) if dataset.name in real.NAMES else None
    works = [
        work
        for work in (_VIDEOS.get(kind.source) if kind else None, _LABELS.get(release.repository) if release else None)
        if work is not None
    ]
    return Source(
        videos=kind.videos_from if kind else NOT_STATED,
        labels=f"{repository}, commit {release.commit}" if release else NOT_STATED,
        url=repository or _urn(dataset),
        license=kind.license if kind else NOT_STATED,
        label_license=release.license if release else NOT_STATED,
        published=str(max(work.year for work in works)) if works else made,
        cite=tuple(dict.fromkeys((*works, STPRIVACY))),
    )


def _urn(dataset: Dataset) -> str:
    """A name of its own where there is no page on the web."""
    return f"urn:stp-bench:{dataset.name}:{dataset.benchmark.version}"
