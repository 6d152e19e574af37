"""How the threads of OpenMP, which torch computes with on CPUs, wait for each other."""

from collections.abc import MutableMapping

_POLICY, _SPINS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
# Some ten microseconds, which most waits in a step are shorter than.
_SHORT_WAIT = "1000"


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Let waiting threads spin for a moment and then sleep; call this before torch is imported.

    Threads that sleep at once make a training step a third slower. Threads that spin for as long as
    OpenMP lets them make everything several times as slow on a machine that is busy with other
    work (benchmarks/backends/busy.py). A policy that the environment sets is kept.
    """
    if _POLICY not in environment:
        environment[_POLICY] = "PASSIVE"
        environment.setdefault(_SPINS, _SHORT_WAIT)  # GNU's OpenMP takes this over the policy
