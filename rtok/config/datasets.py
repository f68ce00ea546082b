"""The data sets that come with rtok.

A data set is a function `open_NAME(config: DataConfig) -> ImageSource`. Its traits: `root` if it needs the user's
folder, `repo` if it needs that or an id on the Hugging Face hub, `masks` if its images have masks, which segmentation
needs, `holdout` if `data.holdout` can divide it.
"""

from __future__ import annotations

from rtok.config.registry import DATASETS

DATASETS.add("imagenet", "rtok.data.imagenet:open_imagenet", about="one folder per class", traits=["root"])
DATASETS.add("folder", "rtok.data.folder:open_folder", about="any images, recursively", traits=["root", "holdout"])
DATASETS.add("hf", "rtok.data.hf:open_hf", about="a data set of the Hugging Face hub", traits=["repo", "holdout"])
DATASETS.add("webdataset", "rtok.data.webdataset:open_webdataset", about="tar files", traits=["root", "holdout"])
DATASETS.add("photos", "rtok.data.photos:open_photos", about="sample photos of installed packages")
DATASETS.add("digits", "rtok.data.digits:open_digits", about="scikit-learn's handwritten digits")
DATASETS.add("ade20k", "rtok.data.ade20k:open_ade20k", about="ADEChallengeData2016", traits=["root", "masks"])
DATASETS.add(
    "folder-seg",
    "rtok.data.folder_seg:open_folder_seg",
    about="`images`, `masks` and `classes.txt`",
    traits=["root", "masks", "holdout"],
)
DATASETS.add("given", "rtok.data.memory:open_given", about="what a Python program has in memory")
