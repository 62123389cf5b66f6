"""Batch normalisation folded into the convolution before it: the same function, fewer layers."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CONV = (nn.Conv2d, nn.Conv3d)
_BATCH = (nn.BatchNorm2d, nn.BatchNorm3d)


def folded(network: nn.Module) -> nn.Module:
    """A copy of a network, in evaluation, without batch normalisations behind convolutions.

    They must stand right behind their convolution in a Sequential, as `viscera.nets.blocks` puts
    them.
    """
    result = copy.deepcopy(network).eval()
    for module in list(result.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        for number in range(len(module) - 1):
            conv, norm = module[number], module[number + 1]
            if isinstance(conv, _CONV) and isinstance(norm, _BATCH):
                module[number] = fuse_conv_bn_eval(conv, norm)
                module[number + 1] = nn.Identity()
    return result
