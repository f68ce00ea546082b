"""Python first: `evaluate`, `train` and `attack` take models, tensors and keywords, where commands take config files.

They make the config of the command from their arguments and run it as the command would.
"""

from rtok.api.adversarial import attack
from rtok.api.evaluation import evaluate
from rtok.api.reports import report
from rtok.api.training import train

__all__ = ["attack", "evaluate", "report", "train"]
