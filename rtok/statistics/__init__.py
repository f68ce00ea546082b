"""Confidence intervals, all two-sided at 95 %, and an exact test for a handful of clusters.

Images are often not independent (crops of one photo, for example): every estimator takes the cluster (`group`) of each
image. What is measured several times on the same images (draws of the control, seeds of a training) comes as a second
axis, and its variation enters the interval beside that of the images. No interval has no width, and none leaves the
range of what it is about.
"""

from rtok.statistics.means import difference_interval, mean_interval
from rtok.statistics.pooled import pooled_interval
from rtok.statistics.shares import share_difference_interval, share_interval
from rtok.statistics.signs import sign_flip_p
from rtok.statistics.spread import Clusters, Floats, Interval, Limits

__all__ = [
    "Clusters",
    "Floats",
    "Interval",
    "Limits",
    "difference_interval",
    "mean_interval",
    "pooled_interval",
    "share_difference_interval",
    "share_interval",
    "sign_flip_p",
]
