"""The built-in data sets."""

from __future__ import annotations

from rtok.config.registry import DATASETS

DATASETS.add("imagenet", "rtok.data.imagenet:open_imagenet", about="ImageNet, one folder per class.")
DATASETS.add("folder", "rtok.data.folder:open_folder", about="Any images, recursively.")
DATASETS.add(
    "photos", "rtok.data.photos:open_photos", about="The sample photos of scikit-image and scikit-learn."
)
DATASETS.add("digits", "rtok.data.digits:open_digits", about="scikit-learn's handwritten digits.")
DATASETS.add("ade20k", "rtok.data.ade20k:open_ade20k", about="ADE20K as ADEChallengeData2016, with masks.")
DATASETS.add(
    "folder-seg",
    "rtok.data.folder_seg:open_folder_seg",
    about="Any images with masks: `images`, `masks` and `classes.txt`.",
)
