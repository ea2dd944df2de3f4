import pytest

from convscope.errors import ConfigError, RunError, TrainingError
from convscope.scale.devices import ONE, Devices
from convscope.scale.multihost import Launch, from_first, launch_of, losses_explained

EXPLICIT = {"JAX_COORDINATOR_ADDRESS": "node1:1234", "JAX_NUM_PROCESSES": "4"}
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "node[1-4]",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}


@pytest.mark.parametrize(
    ("variables", "launch"),
    [
        ({}, None),
        ({**EXPLICIT, "JAX_PROCESS_ID": "3"}, Launch(4, 3, "node1:1234")),
        ({**EXPLICIT, "JOB_COMPLETION_INDEX": "2"}, Launch(4, 2, "node1:1234")),
        ({**SLURM, **EXPLICIT, "JAX_PROCESS_ID": "0"}, Launch(4, 0, "node1:1234")),
        (SLURM, Launch(8, 5)),
        (OPEN_MPI, Launch(2, 1)),
        ({**EXPLICIT, "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, None),
        ({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        # A batch script, or a pod of any Indexed Job, is no task of a common step.
        ({name: value for name, value in SLURM.items() if "STEP" not in name}, None),
        ({"JOB_COMPLETION_INDEX": "2"}, None),
    ],
)
def test_the_environment_says_which_of_several_processes_this_is(variables, launch):
    assert launch_of(variables) == launch


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (EXPLICIT, "JAX_PROCESS_ID from 0"),
        ({"JAX_COORDINATOR_ADDRESS": "node1:1234", "JAX_PROCESS_ID": "0"}, "JAX_NUM_PROCESSES"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS=HOST:PORT"),
        ({**EXPLICIT, "JAX_COORDINATOR_ADDRESS": "node1", "JAX_PROCESS_ID": "0"}, "HOST:PORT"),
        ({**EXPLICIT, "JAX_PROCESS_ID": "4"}, "process 4 of 4, but they count from 0"),
        ({**EXPLICIT, "JAX_PROCESS_ID": "first"}, "JAX_PROCESS_ID from 0"),
    ],
)
def test_incomplete_variables_are_refused(variables, problem):
    with pytest.raises(ConfigError, match=problem):
        launch_of(variables)


def test_what_a_single_process_sends_it_gets():
    assert from_first(ONE, b"settings") == b"settings"


def test_a_lost_process_is_said_in_one_line():
    lost = ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer [10.0.0.2]:19638")
    with (
        pytest.raises(TrainingError, match="process 1 of 2 lost another one, .*; start again"),
        losses_explained(Devices(2, 2, 1), "start again"),
    ):
        raise lost
    # Alone there is nobody to lose.
    with pytest.raises(ValueError, match="Gloo"), losses_explained(ONE, "start again"):
        raise lost


@pytest.mark.parametrize("error", [ValueError("a defect"), RunError("UNAVAILABLE snapshot")])
def test_other_errors_stay_what_they_are(error):
    with (
        pytest.raises(type(error), match=str(error)),
        losses_explained(Devices(2, 2, 1), "start again"),
    ):
        raise error
