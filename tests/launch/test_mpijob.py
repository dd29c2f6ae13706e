"""launch/mpijob.yaml against what the MPI Operator wants of an MPIJob, and its arguments against the launcher's.

The schema is kept by hand: of kubeflow/mpi-operator v0.8, manifests/base/kubeflow.org_mpijobs.yaml, the fields that
the job has, and their types. A field that is not there is a mistake: Kubernetes would leave it out in silence.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_llm import launch, train
from dist_llm.parallel.comm import SerialComm

JOB = yaml.safe_load((Path(__file__).parent.parent.parent / "launch" / "mpijob.yaml").read_text())
QUANTITIES = {"cpu": str, "memory": str}
CONTAINER = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "securityContext": {"runAsUser": int},
    "readinessProbe": {"tcpSocket": {"port": (int, str)}, "initialDelaySeconds": int},
    "resources": {"limits": QUANTITIES, "requests": QUANTITIES},
    "volumeMounts": [{"name": str, "mountPath": str}],
}
POD = {
    "containers": [CONTAINER],
    "terminationGracePeriodSeconds": int,
    "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}}],
}
REPLICA = {"replicas": int, "restartPolicy": ("Never", "OnFailure"), "template": {"spec": POD}}
SCHEMA = {
    "apiVersion": ("kubeflow.org/v2beta1",),
    "kind": ("MPIJob",),
    "metadata": {"name": str},
    "spec": {
        "slotsPerWorker": int,
        "sshAuthMountPath": str,
        "launcherCreationPolicy": ("AtStartup", "WaitForWorkersReady"),
        "mpiImplementation": ("OpenMPI", "Intel", "MPICH"),
        "runPolicy": {"cleanPodPolicy": ("None", "Running", "All"), "backoffLimit": int},
        "mpiReplicaSpecs": {"Launcher": REPLICA, "Worker": REPLICA},
    },
}


def check(value: Any, schema: Any, path: str = "") -> None:
    """Fail where a value is not what the schema says: a mapping, a list of, a type, or one of."""
    if isinstance(schema, dict):
        assert isinstance(value, dict), path
        for key in value:
            assert key in schema, f"{path}.{key}"
            check(value[key], schema[key], f"{path}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), path
        for number, item in enumerate(value):
            check(item, schema[0], f"{path}[{number}]")
    elif isinstance(schema, tuple):
        assert value in schema or type(value) in schema, path
    else:
        assert type(value) is schema, path


def container(role: str) -> dict[str, Any]:
    (container,) = JOB["spec"]["mpiReplicaSpecs"][role]["template"]["spec"]["containers"]
    return container


def test_every_field_is_one_of_an_mpijob_and_of_its_type():
    check(JOB, SCHEMA)


@pytest.mark.parametrize(
    ("where", "key", "value"), [("spec", "slotPerWorker", 4), ("spec", "slotsPerWorker", "4"), ("metadata", "name", 3)]
)
def test_a_mistake_would_be_found(where, key, value):
    with pytest.raises(AssertionError, match=f"{where}.{key}"):
        check(JOB | {where: JOB[where] | {key: value}}, SCHEMA)


def test_the_launcher_understands_its_arguments():
    words = container("Launcher")["args"]
    cut = words.index("--")
    wishes = launch.command_line().parse_on_rank_0(words[:cut], SerialComm())
    assert wishes.go_on
    assert str(wishes.hostfile) == "/etc/mpi/hostfile"
    pod = JOB["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]
    assert wishes.grace_s < pod["terminationGracePeriodSeconds"]
    assert train.command_line().parse_on_rank_0(words[cut + 1 :], SerialComm())


def test_a_worker_has_a_cpu_for_each_rank_and_all_pods_share_a_volume():
    assert container("Worker")["resources"]["limits"]["cpu"] == str(JOB["spec"]["slotsPerWorker"])
    assert container("Worker")["volumeMounts"] == container("Launcher")["volumeMounts"]
    assert container("Worker")["image"] == container("Launcher")["image"]
