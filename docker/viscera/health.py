"""Whether the server of this container answers; other commands than `serve` have none to ask."""

from pathlib import Path
from urllib.request import urlopen

words = Path("/proc/1/cmdline").read_bytes().split(b"\0")
if b"serve" in words:
    urlopen("http://127.0.0.1:8765/api/health", timeout=4)
