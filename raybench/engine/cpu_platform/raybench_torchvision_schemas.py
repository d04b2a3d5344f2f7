"""Lets torchvision's Python side load beside a CPU build of torch.

Not part of raybench's own process: a `.pth` line of an environment that raybench manages imports this file in every
interpreter of that environment, spawned children included. torchvision from a registry is a CUDA build whose extension
cannot load there, and SGLang imports torchvision always; its import fails only because two operator schemas are then
undeclared. They are declared here just before the first import of torchvision. With a CUDA build of torch nothing is
done.
"""

# ruff: noqa: PLC0415, ARG002 - torch is imported only if torchvision will be; the signature is importlib's
import sys
from importlib.abc import MetaPathFinder

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class SchemasBeforeTorchvision(MetaPathFinder):
    """Finds nothing itself; declares the schemas when torchvision is about to be looked for, once."""

    library = None
    """The torch library object; the schemas live as long as it does."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                library = torch.library.Library("torchvision", "FRAGMENT")
                for schema in SCHEMAS:
                    library.define(schema)
                type(self).library = library


sys.meta_path.insert(0, SchemasBeforeTorchvision())
