"""Both engines report home by default. This switches it off, and runs before either is imported.

- onnxruntime makes a device id and looks its vendor up as soon as a session exists; only the
  environment variable, set before the import, prevents it.
- openvino sends an analytics event on import and writes an id into the home folder, unless its
  telemetry package cannot be imported: then it uses a stub of its own.
"""

from __future__ import annotations

import os
import sys


def disable_telemetry() -> None:
    """Switch vendor telemetry off, for this process and its children."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
