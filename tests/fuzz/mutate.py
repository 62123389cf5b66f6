"""Damage to bytes and to texts, as copying, disks, tools and attackers do it."""

from __future__ import annotations

import random

# Sizes and counts at which code breaks, in both byte orders.
_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_WORDS = (
    b"nan", b"inf", b"-1", b"1e400", b"\0", b"\x07", "²".encode(), b"=", b"[", b"]]", b'"', b"\\",
    b"../", b"/dev/zero", b"%s%n", b"\xff\xfe", b"9" * 400, b"true", b"[" * 2000, b"{" * 2000,
)  # fmt: skip


def mutate(content: bytes, random_: random.Random) -> bytes:
    """The content with one to eight faults.

    Args:
        content: a whole file.
        random_: decides which.
    """
    damaged = bytearray(content)
    for _ in range(random_.choice((1, 1, 1, 2, 4, 8))):
        if not damaged:
            break
        _damage(damaged, random_)
    return bytes(damaged)


def _damage(damaged: bytearray, random_: random.Random) -> None:
    # Headers lie at the beginning, and matter most.
    end = random_.choice((64, 400, 4000, len(damaged)))
    at = random_.randrange(min(end, len(damaged)))
    kind = random_.randrange(9)
    if kind == 0:
        damaged[at] ^= 1 << random_.randrange(8)
    elif kind == 1:
        damaged[at] = random_.randrange(256)
    elif kind == 2:
        del damaged[at:]
    elif kind == 3:
        del damaged[at : at + random_.randrange(1, 64)]
    elif kind == 4:
        damaged[at:at] = damaged[at : at + random_.randrange(1, 256)]
    elif kind == 5:
        size = random_.choice((1, 2, 4, 8))
        number = random_.choice(_NUMBERS) & (1 << 8 * size) - 1
        order = random_.choice(("little", "big"))
        damaged[at : at + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
    elif kind == 6:
        damaged[at:at] = random_.choice(_WORDS)
    elif kind == 7:
        word = random_.choice(_WORDS)
        damaged[at : at + len(word)] = word
    else:
        start = random_.randrange(len(damaged))
        damaged[at:at] = damaged[start : start + random_.randrange(1, 512)]
