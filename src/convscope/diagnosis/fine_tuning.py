"""Layers of a backbone that lose what they knew when they begin to be trained."""

from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case
from convscope.diagnosis.chance import fewer_right
from convscope.diagnosis.guessing import guessing
from convscope.training.results import HEAD

_JUMP = 1.5
"""First validation loss of the trained layers over the last one of the head alone."""
_SURE = 0.05


@TRAPS.register("fine-tuning")
def fine_tuning(case: Case) -> Finding | None:
    """Fine-tuning that begins with a jump: the first steps undo what the backbone had learnt.

    The head is far from its optimum, or the rate is too high for so few images; what is lost may
    not come back.
    """
    rows = case.all_phases
    head = [row for row in rows if row["phase"] == HEAD]
    tuned = [row for row in rows if row["phase"] != HEAD]
    if case.backbone is None or not head or not tuned:
        return None
    before, first, last = head[-1], tuned[0], tuned[-1]
    rise = first["val_loss"] - before["val_loss"]
    # Close to 0 a loss may well double.
    if first["val_loss"] < _JUMP * before["val_loss"] or rise < guessing(case).little:
        return None
    n_val = int(case.n_val)
    n_right = [round(n_val * row["val_accuracy"]) for row in (last, before)]
    lost = fewer_right((n_right[0], n_val), (n_right[1], n_val)) < _SURE
    rate = case.config.optimizer.learning_rate
    remedies = [case.again("a tenth of the learning rate", {"optimizer.learning_rate": rate / 10})]
    if not case.config.head.logistic:
        better = {
            **{"head.logistic": True, "head.standardise": True, "head.hidden": []},
            **{"head.dropout": 0.0, "backbone.head_epochs": 0},
        }
        remedies.append(case.again("start from the best possible head", better))
    symptom = "Fine-tuning began with a jump: the backbone lost "
    symptom += "what it knew." if lost else "some of what it knew, at least for a while."
    if case.rolled_back:
        symptom = "Fine-tuning began with a jump and was undone: the frozen backbone was kept."
    return Finding(
        symptom=symptom,
        evidence=f"When layers of the backbone joined in, the validation loss went from "
        f"{before['val_loss']:.3f} to {first['val_loss']:.3f}; {case.decisions} "
        f"{before['val_accuracy']:.1%} with the frozen backbone, {last['val_accuracy']:.1%} at "
        "the end.",
        remedies=tuple(remedies),
        sure="note" if case.rolled_back else "certain" if lost else "likely",
    )
