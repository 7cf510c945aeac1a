"""The card as Croissant metadata: JSON-LD that data catalogues and search engines read (https://mlcommons.org/croissant).

It describes two files by name, size and digest: the index, which stays where the data were prepared, and the table of
classes, which lies beside the card. No path of a machine is in it; who reads the records gives the places by name::

    mlcroissant.Dataset("croissant.json", mapping={"index.parquet": ".../index.parquet"}).records("videos")
"""

from __future__ import annotations

import copy
from typing import Any

import pyarrow.parquet as pq

from stp_bench.card._describe import Card
from stp_bench.errors import WorkError
from stp_bench.index import Dataset

# The context that version 1.0 of the specification prescribes.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
}  # fmt: skip
INDEX, CLASSES = "index.parquet", "classes.csv"
_ABOUT = {
    "video_id": ("sc:Text", "Name of the video"),
    "relpath": ("sc:Text", "Where the video lies in its folder"),
    "group": ("sc:Text", "What ties clips together: one film, one source video"),
    "frames": ("sc:Integer", "Decoded frames"),
    "height": ("sc:Integer", "Pixels"),
    "width": ("sc:Integer", "Pixels"),
    "fps": ("sc:Float", "Frames per second"),
    "bytes": ("sc:Integer", "Size of the file"),
    "sha256": ("sc:Text", "Digest of the file"),
}
_TABLE = {
    "target": ("sc:Text", "What is recognized"),
    "unit": ("sc:Text", "What is counted: videos or frames"),
    "group": ("sc:Text", "Group of classes that is scored by itself"),
    "number": ("sc:Integer", "Place of the class in the labels"),
    "class": ("sc:Text", "Its name"),
}


def croissant(card: Card, dataset: Dataset, *, classes_sha256: str, classes_bytes: int) -> dict[str, Any]:
    """The Croissant 1.0 document of a card."""
    spans = [name for name in pq.read_schema(dataset.root / INDEX).names if name.startswith("spans_")]
    fields = [_field("videos", INDEX, name, kind, about) for name, (kind, about) in _ABOUT.items()]
    lists = card.name.partition("@")[2]
    for number in card.splits:
        about = f"Side in split {number}: train, test, or none if unused"
        fields.append(
            _field(
                "videos", INDEX, f"split{number}", "sc:Text", about, column=f"split{number}@{lists}" if lists else ""
            )
        )
    for target in dataset.benchmark.targets:
        how = "number of the class" if target.kind == "multiclass" else "per class 1, 0, or -1 where not labelled"
        if f"spans_{target.name}" in spans:
            how += f"; of some frame: labels by range of frames are in column spans_{target.name}"
        about = f"Labels of {target.name}: {how}"
        fields.append(_field("videos", INDEX, f"label_{target.name}", "sc:Integer", about, repeated=True))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": card.name,
        "alternateName": card.title,
        "description": _description(card),
        "url": card.source.url,
        "license": card.source.terms,
        "citeAs": "\n".join(work.bibtex for work in card.source.cite),
        "datePublished": card.source.published,
        "version": f"{card.version}.0.0",
        "keywords": ["action recognition", "privacy", "video"],
        "distribution": [
            _file(INDEX, "application/x-parquet", card.index_sha256, card.index_bytes, "One row per video"),
            _file(CLASSES, "text/csv", classes_sha256, classes_bytes, "One row per class of a target, with counts"),
        ],
        "recordSet": [
            _records("videos", "The videos with their labels and sides", "video_id", fields),
            _records(
                "classes", "The classes that the labels' places and numbers stand for", None,
                [_field("classes", CLASSES, name, kind, about) for name, (kind, about) in _TABLE.items()],
            ),
        ],
    }  # fmt: skip


def validate(document: dict[str, Any]) -> bool:
    """Whether `mlcroissant` finds the document valid; False where it is not installed, so that nobody looked.

    Raises:
        WorkError: it finds an error.
    """
    try:
        import mlcroissant
    except ImportError:
        return False
    try:
        mlcroissant.Dataset(jsonld=copy.deepcopy(document))  # it adds to what it reads
    except mlcroissant.ValidationError as error:
        why = " ".join(str(error).split())
        raise WorkError("croissant.json is not valid", why, "this is a defect: please report it") from error
    return True


def _description(card: Card) -> str:
    action, (*_, privacy) = card.action, card.privacy
    tags = {name: len(of) for name, of in privacy.by_group().items()}
    what = (
        ", ".join(f"{count:,} {name} tags" for name, count in tags.items())
        if len(tags) > 1
        else ", ".join(c.name for c in privacy.classes)
    )
    return (
        f"{card.title}: {card.videos:,} videos of {len(action.classes):,} classes of {action.target}, labelled for "
        f"what should stay private: {what}."
    )


def _file(name: str, kind: str, sha256: str, size: int, about: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "description": about, "contentUrl": name,
        "contentSize": f"{size} B", "encodingFormat": kind, "sha256": sha256,
    }  # fmt: skip


def _records(name: str, about: str, key: str | None, fields: list[dict[str, Any]]) -> dict[str, Any]:
    found = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": about}
    return found | ({"key": {"@id": f"{name}/{key}"}} if key else {}) | {"field": fields}


def _field(
    records: str, file: str, name: str, kind: str, about: str, *, column: str = "", repeated: bool = False
) -> dict[str, Any]:
    """A field and the column that it is read from, its own name where no other is given."""
    found = {
        "@type": "cr:Field", "@id": f"{records}/{name}", "name": name, "description": about, "dataType": kind,
        "source": {"fileObject": {"@id": file}, "extract": {"column": column or name}},
    }  # fmt: skip
    return found | ({"repeated": True} if repeated else {})
