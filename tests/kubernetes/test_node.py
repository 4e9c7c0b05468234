from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

from tests.kubernetes.api import Object
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.node import Node, running_node
from tests.kubernetes.objects import Cluster, container, is_ready, once, python, states, wait_for

pytestmark = pytest.mark.slow

SERVER = """
import http.server, os, signal, sys, time
def stop(*_):
    print("draining", flush=True)
    time.sleep(float(os.environ.get("DRAIN", "0.3")))
    print("drained", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
began = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = self.path != "/readyz" or time.monotonic() - began > 1
        if self.path == "/healthz" and os.path.exists(os.environ["TMPDIR"] + "/sick"):
            ready = False
        self.send_response(200 if ready else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer((os.environ["ADDRESS"], 9100), Handler).serve_forever()
"""

ADDRESS = {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def server(**variables: str) -> Object:
    return python(
        SERVER,
        env=[ADDRESS, *({"name": name, "value": value} for name, value in variables.items())],
        ports=[{"name": "metrics", "containerPort": 9100}],
        startupProbe={"httpGet": {"path": "/healthz", "port": "metrics"}, "failureThreshold": 30},
        livenessProbe={"httpGet": {"path": "/healthz", "port": "metrics"}, "failureThreshold": 2},
        readinessProbe={"httpGet": {"path": "/readyz", "port": "metrics"}},
        volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],
    )


def deployment(cluster: Cluster, replicas: int, grace: int = 10, **variables: str) -> None:
    labels = {"app": "server"}
    pod = {
        "containers": [server(**variables)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": grace,
    }
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "server"},
        "spec": spec,
    }
    cluster.api.apply(cluster.path("deployments", "server"), body)


@pytest.fixture
def cluster(control_plane: ControlPlane, node: Node, namespace: str) -> Cluster:
    return Cluster(control_plane.api, namespace)


def test_a_job_completes(cluster: Cluster, node: Node) -> None:
    spec = once(python("print('done')"))
    cluster.create("jobs", "good", spec={"template": {"spec": spec}})
    wait_for(lambda: cluster.get("jobs", "good")["status"].get("succeeded"))
    (pod,) = cluster.pods(**{"job-name": "good"})
    (state,) = states(pod)
    assert state["terminated"]["exitCode"] == 0
    assert state["terminated"]["reason"] == "Completed"
    assert "message" not in state["terminated"]
    assert node.logs(cluster.namespace, pod["metadata"]["name"]) == "done\n"


def test_a_failing_job_tells_the_end_of_its_log(cluster: Cluster) -> None:
    program = "print('x' * 5000); raise SystemExit('the table is not there')"
    failing = python(program, terminationMessagePolicy="FallbackToLogsOnError")
    job = {"backoffLimit": 0, "template": {"spec": once(failing)}}
    cluster.create("jobs", "bad", spec=job)
    wait_for(lambda: cluster.get("jobs", "bad")["status"].get("failed"))
    (pod,) = cluster.pods(**{"job-name": "bad"})
    (state,) = states(pod)
    assert pod["status"]["phase"] == "Failed"
    assert state["terminated"]["exitCode"] == 1
    assert state["terminated"]["message"].endswith("x\nthe table is not there\n")
    assert len(state["terminated"]["message"]) == 2048


def test_a_container_sees_its_variables_secrets_files_and_nothing_of_ours(
    cluster: Cluster, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "and nobody else's")
    cluster.create("secrets", "login", stringData={"password": "p$(HOST)w"})
    cluster.create("configmaps", "settings", data={"a.ini": "[a]\n", "b.ini": "[b]\n"})
    program = """
import json, os, sys
files = {name: open(os.path.join(sys.argv[2], name)).read() for name in os.listdir(sys.argv[2])}
open(os.environ["TMPDIR"] + "/scratch", "w").write("x")
print(json.dumps({"env": dict(os.environ), "args": sys.argv[1:], "files": files,
                  "directory": os.path.exists("workers")}))
"""
    pod = once(
        python(
            program,
            args=["http://$(HOST)/$$(HOST)/$(NOTHING)", "/etc/settings"],
            workingDir="/application",
            env=[
                {"name": "HOST", "value": "h"},
                {"name": "URL", "value": "http://$(HOST)"},
                {
                    "name": "PASSWORD",
                    "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}},
                },
                {
                    "name": "MAYBE",
                    "valueFrom": {"secretKeyRef": {"name": "no", "key": "x", "optional": True}},
                },
                ADDRESS,
            ],
            envFrom=[{"prefix": "SET_", "configMapRef": {"name": "settings"}}],
            volumeMounts=[
                {"name": "settings", "mountPath": "/etc/settings"},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        ),
        volumes=[
            {"name": "settings", "configMap": {"name": "settings", "items": [
                {"key": "b.ini", "path": "mine.ini"}]}},
            {"name": "tmp", "emptyDir": {}},
        ],
    )  # fmt: skip
    cluster.run("sees", pod)
    ended = cluster.ended("sees")
    told = node.logs(cluster.namespace, "sees")
    assert ended["status"]["phase"] == "Succeeded", told
    seen = json.loads(told)
    assert seen["args"][0] == "http://h/$(HOST)/$(NOTHING)"
    assert seen["files"] == {"mine.ini": "[b]\n"}
    assert seen["directory"] is True
    variables = seen["env"]
    assert variables["URL"] == "http://h"
    # What a secret holds is taken as it is.
    assert variables["PASSWORD"] == "p$(HOST)w"
    assert variables["ADDRESS"] == ended["status"]["podIP"]
    assert variables["ADDRESS"].startswith("127.")
    assert variables["SET_a.ini"] == "[a]\n"
    assert variables["HOSTNAME"] == "sees"
    assert not {"OURS", "MAYBE", "VIRTUAL_ENV"} & set(variables)


def test_a_pod_waits_for_its_secret(cluster: Cluster) -> None:
    reference = {"secretKeyRef": {"name": "late", "key": "key"}}
    program = "import os; assert os.environ['KEY'] == 'value'"
    cluster.run("waits", once(python(program, env=[{"name": "KEY", "valueFrom": reference}])))

    def reason() -> bool:
        (state,) = states(cluster.get("pods", "waits")) or [{}]
        return state.get("waiting", {}).get("reason") == "CreateContainerConfigError"

    wait_for(reason)
    cluster.create("secrets", "late", stringData={"key": "value"})
    assert cluster.ended("waits")["status"]["phase"] == "Succeeded"


def test_init_containers_run_first_and_one_after_the_other(cluster: Cluster, node: Node) -> None:
    mount = [{"name": "shared", "mountPath": "/shared"}]
    pod = once(
        python("print(open(__import__('sys').argv[1]).read())",
               args=["/shared/log"], volumeMounts=mount),
        initContainers=[
            python(
                "import sys; open(sys.argv[1], 'a').write(sys.argv[2])",
                name=name, args=["/shared/log", name], volumeMounts=mount,
            )
            for name in ("one", "two")
        ],
        volumes=[{"name": "shared", "emptyDir": {}}],
    )  # fmt: skip
    cluster.run("ordered", pod)
    assert cluster.ended("ordered")["status"]["phase"] == "Succeeded"
    assert node.logs(cluster.namespace, "ordered", "main") == "onetwo\n"


def test_a_container_that_ends_is_run_again_with_a_growing_wait(
    cluster: Cluster, node: Node
) -> None:
    spec = once(python("print('again'); raise SystemExit(3)"), restartPolicy="Always")
    cluster.run("loops", spec)

    def restarts() -> bool:
        pod = cluster.get("pods", "loops")
        each = (pod["status"].get("containerStatuses") or [{}])[0]
        return (
            each.get("restartCount", 0) >= 3
            and each["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
            and each["lastState"]["terminated"]["exitCode"] == 3
        )

    wait_for(restarts)
    assert node.logs(cluster.namespace, "loops").startswith("again\nagain\n")
    cluster.delete("pods", "loops")
    wait_for(lambda: not cluster.exists("pods", "loops"))


def test_a_killed_container_is_told_and_run_again(cluster: Cluster, node: Node) -> None:
    cluster.run("killed", once(python("import time; time.sleep(60)"), restartPolicy="OnFailure"))
    wait_for(lambda: node.running(cluster.namespace) == ["killed"])
    node.kill(cluster.namespace, "killed")

    def told() -> bool:
        (status,) = cluster.get("pods", "killed")["status"]["containerStatuses"]
        last = status["lastState"].get("terminated", {})
        return status["restartCount"] == 1 and last.get("exitCode") == 137

    wait_for(told)
    cluster.delete("pods", "killed", grace=0)


def test_a_deployment_is_rolled_out_scaled_down_and_drained(cluster: Cluster, node: Node) -> None:
    deployment(cluster, 2, VERSION="1")

    def settled(replicas: int) -> bool:
        found = cluster.get("deployments", "server")
        status = found["status"]
        return (
            status.get("observedGeneration") == found["metadata"]["generation"]
            and status.get("updatedReplicas") == replicas
            and status.get("readyReplicas") == replicas
            and status.get("replicas") == replicas
        )

    wait_for(lambda: cluster.pods(app="server"))
    assert not any(is_ready(pod) for pod in cluster.pods(app="server"))
    wait_for(lambda: settled(2))
    first = {pod["metadata"]["name"]: pod for pod in cluster.pods(app="server")}
    assert len({pod["status"]["podIP"] for pod in first.values()}) == 2
    assert len({pod["spec"]["nodeName"] for pod in first.values()}) == 2

    deployment(cluster, 2, VERSION="2")
    fewest = 2

    def rolled() -> bool:
        nonlocal fewest
        fewest = min(fewest, sum(map(is_ready, cluster.pods(app="server"))))
        return settled(2) and not any(cluster.exists("pods", name) for name in first)

    wait_for(rolled)
    assert fewest == 2
    for name in first:
        assert node.logs(cluster.namespace, name) == "draining\ndrained\n"

    deployment(cluster, 0, VERSION="2")
    wait_for(lambda: not cluster.pods(app="server"))
    assert node.running(cluster.namespace) == []


def test_who_does_not_end_within_the_grace_is_killed(cluster: Cluster, node: Node) -> None:
    deployment(cluster, 1, grace=1, DRAIN="30")
    wait_for(lambda: any(map(is_ready, cluster.pods(app="server"))))
    (pod,) = cluster.pods(app="server")
    began = time.monotonic()
    deployment(cluster, 0, grace=1, DRAIN="30")
    wait_for(lambda: not cluster.pods(app="server"))
    assert 1 <= time.monotonic() - began < 10
    assert node.logs(cluster.namespace, pod["metadata"]["name"]) == "draining\n"


def test_a_sick_container_is_restarted_by_its_liveness_probe(cluster: Cluster) -> None:
    sick = python(
        "import os, time; open(os.environ['TMPDIR'] + '/sick', 'w'); time.sleep(60)",
        livenessProbe={
            "exec": {"command": ["python", "-c", "raise SystemExit(1)"]},
            "failureThreshold": 2,
            "terminationGracePeriodSeconds": 1,
        },
        volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],
    )
    spec = once(sick, restartPolicy="Always", volumes=[{"name": "tmp", "emptyDir": {}}])
    cluster.run("sick", spec)

    def restarted() -> bool:
        (status,) = cluster.get("pods", "sick")["status"].get("containerStatuses") or [{}]
        return status.get("restartCount", 0) >= 1

    wait_for(restarted)
    events = cluster.api.get(cluster.path("events"))["items"]
    assert any("livenessProbe of main failed: exit code 1" in each["message"] for each in events)
    cluster.delete("pods", "sick", grace=0)


def test_a_program_that_is_not_there_is_told_as_a_start_error(cluster: Cluster) -> None:
    cluster.run("nothing", once(container("no-such-program")))
    (state,) = states(cluster.ended("nothing"))
    assert state["terminated"]["exitCode"] == 128
    assert '"no-such-program": executable file not found' in state["terminated"]["message"]


def test_what_it_cannot_do_it_refuses_by_name(cluster: Cluster) -> None:
    mount = [{"name": "data", "mountPath": "/data"}]
    spec = once(container("true", volumeMounts=mount), volumes=[{"name": "data", "emptyDir": {}}])
    cluster.run("mount", spec)
    status = cluster.ended("mount")["status"]
    assert status["reason"] == "Unsupported"
    assert "the mount at /data" in status["message"]
    cluster.run("deadline", once(container("true"), activeDeadlineSeconds=5))
    assert "activeDeadlineSeconds" in cluster.ended("deadline")["status"]["message"]


def test_an_image_that_is_not_there_is_not_run(cluster: Cluster, node: Node) -> None:
    image = "registry.example/program@sha256:missing"
    node.missing_images.add(image)
    cluster.run("pulled", once({**container("true"), "image": image}))

    def reason() -> bool:
        (state,) = states(cluster.get("pods", "pulled")) or [{}]
        return state.get("waiting", {}).get("reason") == "ErrImagePull"

    wait_for(reason)
    node.missing_images.remove(image)
    assert cluster.ended("pulled")["status"]["phase"] == "Succeeded"


def test_a_pod_that_fits_no_node_is_told_so(cluster: Cluster) -> None:
    cluster.run("nowhere", once(container("true"), nodeSelector={"kubernetes.io/arch": "s390x"}))

    def unschedulable() -> bool:
        conditions = cluster.get("pods", "nowhere")["status"].get("conditions", [])
        return any(each.get("reason") == "Unschedulable" for each in conditions)

    wait_for(unschedulable)
    cluster.delete("pods", "nowhere")


def test_a_service_account_token_is_one_that_the_api_takes(cluster: Cluster, node: Node) -> None:
    projected = {"sources": [{"serviceAccountToken": {"path": "token", "audience": "somebody"}}]}
    spec = once(
        python(
            "import sys; print(open(sys.argv[1]).read())",
            args=["/tokens/token"],
            volumeMounts=[{"name": "tokens", "mountPath": "/tokens"}],
        ),
        volumes=[{"name": "tokens", "projected": projected}],
    )
    cluster.run("token", spec)
    cluster.ended("token")
    token = node.logs(cluster.namespace, "token").strip()
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["somebody"]},
    }
    status = cluster.api.create("/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert status["user"]["username"] == f"system:serviceaccount:{cluster.namespace}:default"


def test_when_the_node_ends_no_process_is_left(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    cluster = Cluster(control_plane.api, namespace)
    with running_node(control_plane, zones=("eu-central-1c",)) as node:
        write = f"open('{tmp_path}/pid', 'w').write(str(os.getpid()))"
        # Not for the other tests' nodes.
        zone = {"topology.kubernetes.io/zone": "eu-central-1c"}
        program = python(f"import os, time; {write}; time.sleep(60)")
        cluster.run("stays", once(program, nodeSelector=zone))
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process = psutil.Process(int((tmp_path / "pid").read_text()))
        assert process.is_running()
        assert node.running(namespace) == ["stays"]
    assert not process.is_running()
    assert cluster.exists("pods", "stays")


def test_a_jobs_killed_pod_is_followed_by_another(cluster: Cluster, node: Node) -> None:
    # The first run hangs; the second finds that it is not the first.
    cluster.create("configmaps", "turn", data={})
    turn = {"configMapKeyRef": {"name": "turn", "key": "turn", "optional": True}}
    program = (
        "import os, time; print('run', flush=True); time.sleep(0 if 'TURN' in os.environ else 60)"
    )
    running = python(program, env=[{"name": "TURN", "valueFrom": turn}])
    spec = {"backoffLimit": 3, "template": {"spec": once(running)}}
    cluster.create("jobs", "killed", spec=spec)
    (name,) = wait_for(lambda: node.running(cluster.namespace))
    wait_for(lambda: node.logs(cluster.namespace, name) == "run\n")
    cluster.api.patch(cluster.path("configmaps", "turn"), {"data": {"turn": "second"}})
    node.kill(cluster.namespace, name)
    assert states(cluster.ended(name))[0]["terminated"]["exitCode"] == 137
    wait_for(lambda: cluster.get("jobs", "killed")["status"].get("succeeded"), 40)
    assert cluster.get("jobs", "killed")["status"]["failed"] == 1
