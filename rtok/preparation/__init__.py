"""Getting a data set ready: `rtok prepare-imagenet`."""

from rtok.preparation.imagenet import prepare_imagenet

__all__ = ["prepare_imagenet"]
