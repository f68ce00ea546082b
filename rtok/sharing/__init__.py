"""`rtok push`: a run's results, and what its owner gives away of its defenses, in a repository of the hub."""

from rtok.sharing.publish import Pushed, push

__all__ = ["Pushed", "push"]
