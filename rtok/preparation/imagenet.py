"""`rtok prepare-imagenet`: unpack, check, and write the files that DINOv2's reader and rtok's need."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rtok.console import say
from rtok.data.imagenet_extra import ExtraFiles, write_extra
from rtok.data.imagenet_layout import IMAGENET_LABELS, LABELS_FILE, SPLITS, Classes, read_classes
from rtok.errors import UserError, nearest, some
from rtok.files import write_atomic
from rtok.preparation.archives import unpack_archives
from rtok.preparation.scan import Scan, list_split, scan_split

ALL = "all"
# How many problems of each kind are listed: enough to fix a data set, few enough to read.
_LISTED = 100


def prepare_imagenet(
    root: Path,
    *,
    extra: Path | None = None,
    labels: Path | None = None,
    split: str = ALL,
    archives: Path | None = None,
    allow_partial: bool = False,
    dry_run: bool = False,
) -> None:
    """Check ImageNet below `root` and write DINOv2's extra files and `root/labels.txt`.

    Args:
        root: the data set's folder, with `train`, `val` and `test` (one of them is enough).
        extra: the folder for the extra files; the root by default.
        labels: a file of the classes; by default the root's labels.txt, else ImageNet's 1,000.
        split: one split, or `all` that exist.
        archives: the folder of the official archives, which are unpacked first.
        allow_partial: accept an incomplete set and use its good images.
        dry_run: check only, and write nothing.

    Raises:
        UserError: the set is incomplete and `allow_partial` was not given, no image is good, there is no such split, or
            the labels or archives are wrong. Nothing has been written then, except what was unpacked.
    """
    if split not in (valid := [*SPLITS, ALL]):
        raise UserError(f"--split: '{split}' is not a split; valid are {', '.join(valid)}.{nearest(split, valid)}")
    splits = [each for each in SPLITS.values() if split in (each.name, ALL)]
    _check_folders(root, extra, archives)
    own = root / LABELS_FILE
    classes = read_classes(labels or (own if own.is_file() else IMAGENET_LABELS))
    if archives:
        unpack_archives(archives, root, splits, dry_run=dry_run)
    there = [each for each in splits if (root / each.name).is_dir()]
    if not there and dry_run and archives:
        return
    if not there:
        folders = sorted(path.name for path in root.glob("[!.]*") if path.is_dir())
        raise UserError(
            f"--root: {root} has no folder {', '.join(each.name for each in splits)}; it holds "
            f"{some(folders, 8) or 'no folders'}. Give the folder that holds them, or unpack the official archives "
            "with --archives DIR."
        )
    listings = [list_split(root, each, classes) for each in there]  # all, before any takes an hour
    scans = [scan_split(root, listing) for listing in listings]
    _report(scans)
    _judge(scans, classes, root, allow_partial)
    if dry_run:
        return
    none = np.empty(0, dtype=np.uint32)
    for scan in scans:
        files = ExtraFiles(extra or root, scan.split)
        wnids = classes.wnids if scan.split.labeled else ("",)
        write_extra(files, classes, [scan.numbers.get(wnid, none) for wnid in wnids])
        say(f"{scan.split.name}: wrote {files.entries}")
    text = classes.to_text().encode()
    if not own.is_file() or (labels and own.read_bytes() != text):
        write_atomic(own, text)


def _check_folders(root: Path, extra: Path | None, archives: Path | None) -> None:
    """Refuse now what would otherwise fail after an hour."""
    if not archives and not root.exists():
        raise UserError(f"--root: there is no folder {root}. Give the folder that holds train, val or test.")
    if archives and not archives.is_dir():
        raise UserError(f"--archives: there is no folder {archives}. Give the folder of the downloads.")
    for option, folder in (("--root", root), ("--extra", extra or root)):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"{option}: {existing} is a file. Give a folder.")
        if not os.access(existing, os.W_OK):
            raise UserError(f"{option}: {existing} cannot be written to. Give a folder of your own.")


def _report(scans: Sequence[Scan]) -> None:
    """Print the number of images and every problem (at most `_LISTED` of a kind)."""
    for scan in scans:
        for kind, count in _kinds(scan).items():
            for problem in [problem for problem in scan.problems if problem.kind == kind][:_LISTED]:
                say(f"{problem.path}: {kind}: {problem.reason}")
            if count > _LISTED:
                say(f"{scan.split.name}: {count - _LISTED:,} more files are {kind}")
        folders = f" in {len(scan.numbers):,} class folders" if scan.split.labeled else ""
        say(f"{scan.split.name}: {scan.images:,} good images{folders}, {len(scan.problems):,} problems")


def _kinds(scan: Scan) -> Counter[str]:
    return Counter(problem.kind for problem in scan.problems)


def _judge(scans: Sequence[Scan], classes: Classes, root: Path, allow_partial: bool) -> None:
    """Raise a UserError unless the set is complete, or partial and allowed to be; warn that DINOv2 refuses a part."""
    lacks = [text for scan in scans if (text := _lacks(scan, classes))]
    if not lacks:
        return
    if not allow_partial:
        raise UserError(
            f"--root: {root} is not the complete ImageNet. {'; '.join(lacks)}. Fix it, or pass "
            "--allow-partial to use the good images."
        )
    empty = [scan.split.name for scan in scans if not scan.images]
    if empty:
        raise UserError(f"--root: there are no good images in {', '.join(str(root / name) for name in empty)}.")
    say("; ".join(lacks))
    say("rtok reads such a part of ImageNet; DINOv2's own reader refuses sets that are not full size")


def _lacks(scan: Scan, classes: Classes) -> str:
    """Return how a split differs from the complete one, or `""`."""
    texts = []
    if scan.images != scan.split.size:
        texts.append(f"{scan.images:,} good images of {scan.split.size:,}")
    missing = len(classes) - len(scan.numbers) if scan.split.labeled else 0
    if missing:
        texts.append(f"{missing:,} of the {len(classes):,} class folders missing")
    texts += [f"{count:,} {kind}" for kind, count in _kinds(scan).items()]
    return f"{scan.split.name}: {', '.join(texts)}" if texts else ""
