"""What a row is, in words."""

from __future__ import annotations

import pytest

from rtok.reporting.labels import (
    attack_title,
    by_attack,
    capital,
    counted,
    in_words,
    of_255,
    radius,
    token_names,
)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"norm": "linf", "eps": 8 / 255, "units": "pixel"}, "Linf radius 8/255 in pixels"),
        ({"norm": "linf", "eps": 0.5 / 255, "units": "pixel"}, "Linf radius 0.5/255 in pixels"),
        ({"norm": "l2", "eps": 0.5, "units": "pixel"}, "L2 radius 0.5 in pixels"),
        (
            {"norm": "linf", "eps": 8 / 255, "units": "normalized"},
            "Linf radius 8/255 in normalised space, about 1.8/255 in pixels with ImageNet's statistics",
        ),
        (
            {"norm": "linf", "eps": 8 / 255, "units": "normalized", "eps_pixel": 4 / 255},
            "Linf radius 8/255 in normalised space, about 4/255 in pixels",
        ),
    ],
)
def test_a_radius_is_said_in_pixels_too(row, text):
    assert radius(row) == text


def test_of_255():
    assert [of_255(value / 255) for value in (8, 1.8, 0.5, 10, 0)] == [
        "8/255",
        "1.8/255",
        "0.5/255",
        "10/255",
        "0/255",
    ]


def test_the_title_names_attack_radius_and_all_step_counts(rows):
    rows[-1] |= {"steps": 100, "restarts": 5}
    assert attack_title(rows) == (
        "attack paper: Linf radius 8/255 in normalised space, about 1.8/255 in pixels with ImageNet's "
        "statistics, 30 or 100 steps, 1 or 5 restarts"
    )
    autoattack = {"attack": "autoattack", "norm": "linf", "eps": 4 / 255, "units": "pixel", "steps": None}
    assert attack_title([autoattack]) == "attack autoattack: Linf radius 4/255 in pixels"
    assert attack_title([{"attack": None}]) == "attack none"


def test_rows_are_grouped_by_attack_in_order(rows):
    other = [row | {"eps": 4 / 255} for row in rows]
    mixed = [row for pair in zip(rows, other, strict=True) for row in pair]
    assert [group for _, group in by_attack(mixed)] == [rows, other]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/rtokens-10.safetensors", "a/rtokens-50.safetensors"], ["10", "50"]),
        (["a/rtokens.safetensors", "b/rtokens.safetensors"], ["a", "b"]),
        (["x/a/rtokens-1.pt", "x/b/rtokens-1.pt"], ["a/rtokens-1.pt", "b/rtokens-1.pt"]),
        (
            ["/x/a/rtokens.safetensors", "a/rtokens.safetensors"],
            ["/x/a/rtokens.safetensors", "a/rtokens.safetensors"],
        ),
        (["rtokens.safetensors"], ["rtokens"]),
        (["theirs/last.ckpt"], ["last"]),
    ],
)
def test_token_files_get_names_that_tell_them_apart(paths, names):
    rows = [{"tokens": None}, *({"tokens": path} for path in paths for _ in range(2))]
    assert token_names(rows) == dict(zip(paths, names, strict=True))


def test_counts_and_keys_in_words():
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert capital(in_words("adversarial_image_miou")) == "Adversarial image mIoU"
    assert capital("") == ""
