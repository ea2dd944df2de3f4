"""A test set that was used repeatedly."""

from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case
from convscope.ledger import Ledger


@TRAPS.register("test-openings")
def openings(case: Case) -> Finding | None:
    """Test images that were opened more than once.

    After a first look every choice is made knowing the result, and the next result is too
    optimistic.
    """
    found = case.trained.test_openings
    if len(found) < 2:
        return None
    listed = ", ".join(f"{o['at'][:16].replace('T', ' ')} by {o['by']}" for o in found[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    tally = Ledger().tally_of(found)
    looks = "" if tally is None else f" On this machine, for this and other runs, {tally.so_far}."
    return Finding(
        symptom="The test images were opened more than once.",
        evidence=f"{len(found)} times: {listed}{more}.{looks} Report the first result, and keep "
        "them sealed while choosing (train --no-test).",
        remedies=(),  # no command undoes a look
        sure="certain",
    )
