"""Pictures with masks: ade20k, folder-seg, and everything that can be wrong with them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtok.data import open_source
from rtok.data.masks import MaskedFiles, read_classes
from rtok.errors import UserError

Config = Callable[..., object]


def write(root: Path, image: str, mask: str | None, values: object = 0, size: tuple[int, int] = (6, 4)) -> None:
    """Write a picture of `size` (width, height) and a mask that holds `values`."""
    for path in (image, mask):
        if path:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(image)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    if image:
        Image.fromarray(pixels).save(root / image)
    if mask:
        Image.fromarray(np.resize(np.asarray(values, dtype=np.uint8), size[::-1])).save(root / mask)


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    for i, split in enumerate(["training", "validation", "validation"]):
        name = f"ADE_{split}_{i:08d}"
        write(tmp_path, f"images/{split}/{name}.jpg", f"annotations/{split}/{name}.png", [0, 1, 150, 7 + i])
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "images/a/x.jpg", "masks/a/x.png", [0, 1, 255])
    write(tmp_path, "images/y.png", "masks/y.png", [1])
    (tmp_path / "classes.txt").write_text("sky\ngreen grass #00ff7F\n")
    return tmp_path


def opened(config: Config, name: str, **options: object) -> MaskedFiles:
    source = open_source(config(name, **{"split": "val", "limit": None, **options}), seed=0)
    assert isinstance(source, MaskedFiles)
    return source


def test_ade20k_leaves_out_label_zero(ade: Path, config: Config) -> None:
    source = opened(config, "ade20k")
    assert list(source.keys) == [
        "images/validation/ADE_validation_00000001.jpg",
        "images/validation/ADE_validation_00000002.jpg",
    ]
    assert source.read_mask(1).ravel()[:4].tolist() == [255, 0, 149, 8]
    assert source.read(0).size == (6, 4)
    assert [source.problem(i) for i in range(2)] == [None, None]
    assert len(opened(config, "ade20k", split="train")) == 1
    assert opened(config, "ade20k", limit=1).keys in ([source.keys[0]], [source.keys[1]])


def test_ade20k_has_mmsegs_classes_and_colors(ade: Path, config: Config) -> None:
    from rtok.heads.segmentation import engine

    engine.start()
    from mmseg.datasets import ADE20KDataset

    source = opened(config, "ade20k")
    assert list(source.class_names) == [name.strip() for name in ADE20KDataset.METAINFO["classes"]]
    assert [list(color) for color in source.palette] == ADE20KDataset.METAINFO["palette"]


def test_folder_seg(folder: Path, config: Config) -> None:
    source = opened(config, "folder-seg")
    assert list(source.keys) == ["images/a/x.jpg", "images/y.png"]
    assert source.class_names == ["sky", "green grass"] and source.palette[1] == (0, 255, 127)
    assert source.read_mask(0).ravel()[:3].tolist() == [0, 1, 255]
    assert [source.problem(i) for i in range(2)] == [None, None]


def test_folder_seg_with_splits(tmp_path: Path, config: Config) -> None:
    for split in ("train", "val"):
        write(tmp_path, f"images/{split}/{split}.png", f"masks/{split}/{split}.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert list(opened(config, "folder-seg", split="train").keys) == ["images/train/train.png"]
    with pytest.raises(UserError, match="no folder 'test'"):
        opened(config, "folder-seg", split="test")


def test_palette_images_are_masks_too(folder: Path, config: Config) -> None:
    mask = Image.fromarray(np.full((4, 6), 1, dtype=np.uint8)).convert("P")
    mask.putpalette([0, 0, 0, 255, 0, 0])
    mask.putdata([1] * 24)
    mask.save(folder / "masks/y.png")
    assert opened(config, "folder-seg").read_mask(1).tolist() == [[1] * 6] * 4


def test_a_picture_that_was_taken_upright_fits_its_mask(folder: Path, config: Config) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: the picture is 4 wide and 6 high
    Image.new("RGB", (6, 4)).save(folder / "images/a/x.jpg", exif=exif)
    source = opened(config, "folder-seg")
    assert source.problem(0) == "masks/a/x.png is 6 x 4, but its image is 4 x 6"
    Image.new("L", (4, 6)).save(folder / "masks/a/x.png")
    assert source.problem(0) is None and source.read(0).size == (4, 6)


def test_values_that_are_no_class(folder: Path, config: Config) -> None:
    write(folder, "images/y.png", "masks/y.png", [0, 2, 9])
    assert opened(config, "folder-seg").problem(1) == "masks/y.png holds 2, 9; valid are 0 to 1 and 255"


def test_values_that_are_no_class_of_ade20k(ade: Path, config: Config) -> None:
    name = "validation/ADE_validation_00000002"
    write(ade, f"images/{name}.jpg", f"annotations/{name}.png", [0, 151, 255])
    assert str(opened(config, "ade20k").problem(1)).endswith("png holds 151, 255; valid are 0 to 150")


def test_a_mask_of_another_size(folder: Path, config: Config) -> None:
    Image.new("L", (3, 4)).save(folder / "masks/y.png")
    assert opened(config, "folder-seg").problem(1) == "masks/y.png is 3 x 4, but its image is 6 x 4"


@pytest.mark.parametrize("mode", ["RGB", "I;16", "1"])
def test_a_mask_that_holds_no_class_numbers(folder: Path, config: Config, mode: str) -> None:
    Image.new(mode, (6, 4)).save(folder / "masks/y.png")
    with pytest.raises(UserError, match=r"masks/y.png is not a mask: its pixels are .*8-bit gray"):
        opened(config, "folder-seg").problem(1)


def test_a_damaged_mask(folder: Path, config: Config) -> None:
    (folder / "masks/y.png").write_bytes(b"not a PNG")
    with pytest.raises(UserError, match=r"masks/y.png cannot be read as a mask"):
        opened(config, "folder-seg").read_mask(1)


def test_missing_partners(folder: Path, config: Config) -> None:
    (folder / "masks/a/x.png").unlink()
    with pytest.raises(UserError, match=r"1 images have no partner in .*masks, for example a/x.jpg"):
        opened(config, "folder-seg")
    (folder / "images/a/x.jpg").unlink()
    write(folder, "", "masks/z.png")
    with pytest.raises(UserError, match=r"1 masks have no partner in .*images, for example z.png"):
        opened(config, "folder-seg")


def test_splits_of_masks_may_be_spelled_otherwise(folder: Path, config: Config) -> None:
    write(folder, "images/Valid/z.png", "masks/val/z.png", [1])
    (folder / "images/y.png").unlink()
    source = opened(config, "folder-seg")
    assert source.keys == ["images/Valid/z.png"] and source.masks == ["masks/val/z.png"]


def test_held_out_images_keep_their_masks(folder: Path, config: Config) -> None:
    val, train = (opened(config, "folder-seg", split=split, holdout=0.5) for split in ("val", "train"))
    assert {*val.keys, *train.keys} == {"images/a/x.jpg", "images/y.png"} and val.keys != train.keys
    assert val.found == "1 of 2 images in 2 folders" and Path(val.masks[0]).stem == Path(val.keys[0]).stem


def test_two_images_for_one_mask(folder: Path, config: Config) -> None:
    write(folder, "images/y.jpg", None)
    with pytest.raises(UserError, match="differ only in their extension"):
        opened(config, "folder-seg")


def test_other_layouts(tmp_path: Path, config: Config) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*images/validation"):
        opened(config, "ade20k")
    with pytest.raises(UserError, match="no split 'test' with masks"):
        opened(config, "ade20k", split="test")
    with pytest.raises(UserError, match="has no folder images"):
        opened(config, "folder-seg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "names 0 classes"),
        ("sky\n", "names 1 classes"),
        ("sky\nsea\nsky #000000\n", "the class 'sky' twice"),
        ("\n".join(map(str, range(256))), "names 256 classes; valid are 2 to 255"),
    ],
)
def test_class_files_that_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "classes.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_classes(path)


def test_usual_colors_differ(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("\n".join(f"class {i}" for i in range(32)))
    _, palette = read_classes(tmp_path / "c.txt")
    assert len(set(palette)) == 32
