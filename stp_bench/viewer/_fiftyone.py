"""The only module that knows FiftyOne: plans become data sets, and the App shows them.

Call `stp_bench.viewer._database.prepare` first: FiftyOne reads its environment when it is imported. Pitfalls that shape
this module: views through groups (``select_groups``, ``groups.<slice>``) work in Python and break the App, so verdicts
are on every slice and views are plain matches; without metadata of ours the App calls for ffprobe.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from stp_bench.errors import BenchError, UserError, WorkError, unknown_name
from stp_bench.progress import Reporter
from stp_bench.viewer._database import ADDRESS, GET_DATABASE
from stp_bench.viewer._plan import Plan, Sample, Tag, Value

OWNER = "stp-bench"
"""What ``info["created_by"]`` says of data sets of ours; no other one is ever touched."""
_CHUNK = 600
"""Samples that are sent to the database at once."""
_UNFINISHED = "stp-unfinished-"


def build(plan: Plan, reporter: Reporter) -> bool:
    """Make the data set of a plan, replacing an older one of ours; one of the same content is left as it is.

    It gets its name when it is whole: one that was interrupted is not seen and goes away.

    Returns:
        Whether it was built; False if it was there already.

    Raises:
        UserError: a data set of this name is not ours.
        WorkError: the database failed.
    """
    with _database() as fo:
        if fo.dataset_exists(plan.name):
            there = fo.load_dataset(plan.name)
            _check_ours(there)
            if there.info.get("key") == plan.key and len(there) == len(plan.groups):
                return False
        _sweep(fo)
        made = fo.Dataset(f"{_UNFINISHED}{os.getpid()}-{secrets.token_hex(3)}")
        made.info = {**plan.info, "created_by": OWNER, "key": plan.key}
        made.save()
        _fill(fo, made, plan, reporter)
        _arrange(fo, made, plan)
        if fo.dataset_exists(plan.name):
            fo.delete_dataset(plan.name)
        made.name = plan.name
        made.persistent = True
        return True


def listed() -> list[dict[str, Any]]:
    """The data sets of ours: ``name``, ``videos``, ``created``, ``benchmark`` or ``votes``, ``views``."""
    found = []
    with _database() as fo:
        for name in fo.list_datasets():
            dataset = fo.load_dataset(name)
            if _ours(dataset) and not name.startswith(_UNFINISHED):
                found.append(
                    {
                        "name": name, "videos": len(dataset), "created": f"{dataset.created_at:%Y-%m-%d %H:%M}",
                        "of": dataset.info.get("benchmark") or dataset.info.get("votes"),
                        "methods": list(dataset.info.get("methods", ())), "views": sorted(dataset.list_saved_views()),
                        "media": list(dataset.info.get("media", ())),
                    }
                )  # fmt: skip
    return found


def delete(name: str) -> None:
    """Delete a data set of ours; its files stay.

    Raises:
        UserError: there is none of this name, or it is not ours.
        WorkError: the database failed.
    """
    with _database() as fo:
        if not fo.dataset_exists(name):
            raise unknown_name("data set", name, [d["name"] for d in listed()])
        _check_ours(fo.load_dataset(name))
        fo.delete_dataset(name)


@contextmanager
def opened(name: str, port: int) -> Iterator[None]:
    """The App with a data set, on this machine's own address, for the length of a block.

    Raises:
        WorkError: it did not start.
    """
    with _database() as fo:
        session = fo.launch_app(fo.load_dataset(name), remote=True, address=ADDRESS, port=port)
    try:
        yield
    finally:
        session.close()


def _fill(fo: Any, dataset: Any, plan: Plan, reporter: Reporter) -> None:
    if plan.slices:
        dataset.add_group_field("variant", default=plan.default_slice)
    waiting: list[Any] = []
    with reporter.stage("build the data set", len(plan.groups), "videos") as task:
        for done, group in enumerate(plan.groups, start=1):
            place = fo.Group() if plan.slices else None
            waiting += [_sample(fo, sample, place) for sample in group]
            if len(waiting) >= _CHUNK or done == len(plan.groups):
                dataset.add_samples(waiting, dynamic=False, progress=False)
                task.update(done, len(plan.groups))
                waiting = []


def _sample(fo: Any, sample: Sample, place: Any) -> Any:
    fields = {name: _value(fo, value) for name, value in sample.fields.items() if value is not None}
    if place is not None:
        fields["variant"] = place.element(sample.slice)
    made = fo.Sample(filepath=str(sample.file), tags=list(sample.tags), metadata=_metadata(fo, sample), **fields)
    if (keep := sample.keep_LNN) is not None:
        for number in range(1, sample.frames + 1):  # frames are counted from 1
            grid = keep[(number - 1) * len(keep) // sample.frames]
            made.frames[number] = fo.Frame(
                retention=fo.Heatmap(map=grid.astype(np.float32), range=[0, 1]), kept=float(grid.mean())
            )
    return made


def _metadata(fo: Any, sample: Sample) -> Any:
    """What the App wants to know of a file; it would otherwise look for a program to find out."""
    import av

    with av.open(str(sample.file)) as container:
        stream = container.streams.video[0]
        return fo.VideoMetadata(
            size_bytes=sample.file.stat().st_size, mime_type="video/mp4", frame_width=stream.width,
            frame_height=stream.height, frame_rate=float(sample.fps), total_frame_count=sample.frames,
            duration=sample.frames / sample.fps, encoding_str="avc1",
        )  # fmt: skip


def _value(fo: Any, value: Value) -> Any:
    if isinstance(value, Tag):
        return fo.Classification(label=value.name, confidence=value.confidence)
    if isinstance(value, tuple):
        return fo.Classifications(classifications=[_value(fo, tag) for tag in value])
    return value


def _arrange(fo: Any, dataset: Any, plan: Plan) -> None:
    """Views, the sidebar with its explanations, and what is painted at the start."""
    there = set(dataset.get_field_schema(flat=True))
    if dataset.media_type == "video" or plan.slices:
        there |= {f"frames.{name}" for name in dataset.get_frame_field_schema() or ()}
    for name, text in plan.described.items():
        if name in there:
            field = dataset.get_field(name)
            field.description = text
            field.save()
    groups = [
        fo.SidebarGroupDocument(name=s.title, paths=paths, expanded=s.expanded)
        for s in plan.sections
        if (paths := [name for name in s.fields if name in there])
    ]
    # Those that the App would put first, and open.
    groups.append(fo.SidebarGroupDocument(name="tags", paths=[], expanded=False))
    of_file = sorted(name for name in there if name.startswith("metadata."))
    groups.append(fo.SidebarGroupDocument(name="metadata", paths=of_file, expanded=False))
    dataset.app_config.sidebar_groups = groups
    active = [name for name in (*plan.active, "frames.retention") if name in there]
    dataset.app_config.active_fields = fo.ActiveFields(paths=active)
    dataset.save()
    for name in plan.views:
        view = dataset.match(fo.ViewField("verdict").contains(name))
        dataset.save_view(name, view, description=plan.explained.get(name))


def _sweep(fo: Any) -> None:
    """Remove what killed commands left half built."""
    for name in fo.list_datasets(f"{_UNFINISHED}*"):
        pid = name.removeprefix(_UNFINISHED).partition("-")[0]
        if _ours(fo.load_dataset(name)) and not _alive(pid):
            fo.delete_dataset(name)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True
    return True


def _ours(dataset: Any) -> bool:
    return bool((dataset.info or {}).get("created_by") == OWNER)


def _check_ours(dataset: Any) -> None:
    if not _ours(dataset):
        raise UserError(
            f"the data set {dataset.name!r} is left alone", "it was not made by stp-bench", "rename it in FiftyOne"
        )


@contextmanager
def _database() -> Iterator[Any]:
    """FiftyOne, imported; what it raises where its database fails becomes one line."""
    try:
        import fiftyone as fo
        from fiftyone.core.config import FiftyOneConfigError
        from pymongo.errors import PyMongoError
    except ImportError as error:
        mend = "pip install --force-reinstall 'stp-bench[inspect]'"
        raise WorkError("FiftyOne cannot be imported", str(error).splitlines()[0], mend) from error
    logging.getLogger("fiftyone").setLevel(logging.ERROR)
    try:
        yield fo
    except BenchError:
        raise
    except (FiftyOneConfigError, ConnectionError, PyMongoError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WorkError("the viewer's database failed", why[:1].lower() + why[1:], GET_DATABASE) from error


def link(name: str, port: int) -> str:
    """The address of a data set in the App."""
    return f"http://{ADDRESS}:{port}/datasets/{name}"
