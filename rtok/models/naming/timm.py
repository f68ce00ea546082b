"""timm's own names, which every backbone has in memory."""

from __future__ import annotations

from rtok.models.naming.rules import Naming

_CLASSIFIER = "a classifier, which is not part of the features"

TIMM = Naming("timm", extras={"head.*": _CLASSIFIER, "head_dist.*": _CLASSIFIER, "pre_logits.*": _CLASSIFIER})
