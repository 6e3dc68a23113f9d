"""Target tasks, baselines, experiments, reports and the command line.

Nothing is imported here, because the command line's entry lies in this package and has to be reached before anything
that is slow or not ours: ``tasks.__main__`` then looks whether ``attacks`` is ours, as the ``check_sisters`` of the
other three packages do when they are imported.
"""

import os

# Before torch is loaded: its threads then sleep while they wait for each other. By default they spin, and on a machine
# that has other work to do as well, that makes everything several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
