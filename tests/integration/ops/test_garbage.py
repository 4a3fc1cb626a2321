"""What a full search for cycles looks at once it is tamed; in a process of its own, since it is the process's."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from ingestd.ops import garbage

class Knot:
    pass

def knot():
    made = Knot()
    made.itself = made
    return weakref.ref(made)

many = [[number] for number in range(2 * garbage.MOST_OBJECTS)]
garbage.tame()
garbage.tame()
print(len(gc.get_objects()) < 1000)            # what was there is not searched

later = [[number] for number in range(2 * garbage.MOST_OBJECTS)]
gone = knot()
gc.collect()
print(gone() is None)                          # what is garbage goes
print(len(gc.get_objects()) < 1000)            # what is left of so many is not searched again

few = [[number] for number in range(garbage.MOST_OBJECTS // 2)]
again = knot()
gc.collect()
print(again() is None)
print(len(gc.get_objects()) > len(few))        # few are searched like before

seen = weakref.ref(kept := Knot())
gc.freeze()
del kept
print(seen() is None)                          # frozen or not: freed when nobody refers to it
print(sum(called.__module__ == garbage.__name__ for called in gc.callbacks))
"""


def test_what_lives_long_is_searched_once_and_garbage_still_goes() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True"] * 6 + ["1"]
