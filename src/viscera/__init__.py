"""viscera: abdominal organs in CT, on a laptop's CPU, in seconds, offline.

    import viscera
    segmentation = viscera.segment("ct.nii.gz")
    segmentation.volumes_ml()["liver"]

The public names stand in `__init__.pyi`, once, for this file, for type checkers and for editors.
Each is imported when it is first used, so that `import viscera` costs nothing.
"""

import lazy_loader

from viscera._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
