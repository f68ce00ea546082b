"""Write `labels.txt`, the names of ImageNet's 1,000 classes, from the synsets and lemmas that timm ships.

One line a class, `n01440764,tench`, in the order of the WordNet ids, which is the order of the classes. A
class is called by its first lemma, with underscores for spaces. Two names are listed twice, rightly: crane
(the bird, the machine) and maillot (the tights, the swimsuit).

    python scripts/make_labels.py labels.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from timm.data import ImageNetInfo

from rtok.files import write_atomic


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write the names of ImageNet's classes.")
    parser.add_argument("out", type=Path, help="the file to write, as a rule labels.txt")
    write_atomic(parser.parse_args().out, labels())


def labels() -> str:
    """Return the content of `labels.txt`."""
    info = ImageNetInfo("imagenet-1k")
    lines = []
    for wnid in sorted(info.label_names()):
        lemma = info.label_name_to_description(wnid).split(",")[0].strip()
        lines.append(f"{wnid},{lemma.replace(' ', '_')}\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
