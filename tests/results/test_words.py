"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from rtok.results.words import capital, counted, detailed, of_255, short_names, with_interval


def test_of_255():
    assert [of_255(value / 255) for value in (8, 1.8, 0.5, 10, 0)] == ["8/255", "1.8/255", "0.5/255", "10/255", "0/255"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/rtokens-10.safetensors", "a/rtokens-50.safetensors"], ["10", "50"]),
        (["a/rtokens.safetensors", "b/rtokens.safetensors"], ["a", "b"]),
        (["x/a/rtokens-1.pt", "x/b/rtokens-1.pt"], ["a/rtokens-1.pt", "b/rtokens-1.pt"]),
        (["/x/a/rtokens.safetensors", "a/rtokens.safetensors"], ["/x/a/rtokens.safetensors", "a/rtokens.safetensors"]),
        (["rtokens.safetensors"], ["rtokens"]),
        (["theirs/last.ckpt"], ["last"]),
    ],
)
def test_defense_files_get_names_that_tell_them_apart(paths, names):
    assert short_names([path for path in paths for _ in range(2)]) == dict(zip(paths, names, strict=True))


def test_counts_and_details():
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert capital("adversarial image mIoU") == "Adversarial image mIoU"
    assert capital("") == ""
    assert [detailed("robust", about) for about in ([], ["10", "plain head"])] == ["robust", "robust (10, plain head)"]


def test_intervals():
    assert with_interval(0.5, None, sign="+") == "+0.500"
    assert with_interval(-0.5, [-0.6, -0.4], sign="+") == "-0.500 ± 0.100"
    assert with_interval(0.5, [0.1, 0.6], sign="+") == "+0.500 [+0.100, +0.600]"
    assert with_interval(0.5, (0.1, 0.6), 1) == "0.5 [0.1, 0.6]"
