"""Serving as a Deployment in Kubernetes."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usedcars_assets.failures import UnavailableError
from usedcars_assets.resources.deployment import refusal

if TYPE_CHECKING:
    from kubernetes.client import V1Deployment, V1Pod

_CALL_SECONDS = 15
_STUCK = (
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "CreateContainerConfigError",
    "InvalidImageName",
)
_PAGE = "page"  # the name of the port of the page that says what a process serves


class KubernetesServing:
    """The pods of one Deployment. Kubernetes keeps them running: they are only looked at, or restarted."""

    def __init__(self, namespace: str, name: str) -> None:
        from kubernetes import client, config
        from kubernetes.config import ConfigException

        try:
            config.load_incluster_config()
        except ConfigException:
            config.load_kube_config()
        self._namespace, self._name = namespace, name
        self._apps, self._core = client.AppsV1Api(), client.CoreV1Api()

    def describe(self) -> str:
        """How many of its pods are ready."""
        found = self._deployment()
        ready = found.status.ready_replicas or 0
        return (
            f"{ready} of {found.spec.replicas} pods of Deployment {self._name} in {self._namespace} are ready"
        )

    def start(self) -> None:
        """Nothing, as Kubernetes runs it; UnavailableError when it was told not to."""
        if not self._deployment().spec.replicas:
            raise UnavailableError(
                f"Deployment {self._name} in {self._namespace} is scaled to 0: scale it to 2, then "
                "materialise serving_rollout again."
            )

    def restart(self) -> None:
        """What kubectl rollout restart does: new pods, one after the other."""
        now = datetime.now(UTC).isoformat()
        annotations = {"kubectl.kubernetes.io/restartedAt": now}
        change = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        self._apps.patch_namespaced_deployment(
            self._name, self._namespace, change, _request_timeout=_CALL_SECONDS
        )

    def why_not(self, version: str) -> str | None:
        """What a pod says against the version, or Kubernetes of pods of which none can start."""
        pods = self._pods()
        stuck = [_stuck(pod) for pod in pods]
        if pods and all(stuck):
            return stuck[0]
        return refusal(filter(None, map(_page, pods)), version)

    def _deployment(self) -> "V1Deployment":
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self._apps.read_namespaced_deployment(
                self._name, self._namespace, _request_timeout=_CALL_SECONDS
            )
        except (ApiException, HTTPError) as error:
            reason = error.reason if isinstance(error, ApiException) else type(error).__name__
            raise UnavailableError(
                f"Kubernetes does not tell of Deployment {self._name} in {self._namespace} ({reason}): "
                "install the streaming application, or name its Deployment in USEDCARS_KUBERNETES_SERVING, "
                "its namespace in USEDCARS_KUBERNETES_NAMESPACE; then materialise serving_rollout again."
            ) from error

    def _pods(self) -> "list[V1Pod]":
        labels = self._deployment().spec.selector.match_labels
        found = self._core.list_namespaced_pod(
            self._namespace,
            label_selector=",".join(f"{name}={value}" for name, value in labels.items()),
            _request_timeout=_CALL_SECONDS,
        )
        return list(found.items)


def _stuck(pod: "V1Pod") -> str | None:
    """Why a pod will not run by itself; None as long as it may."""
    for status in pod.status.container_statuses or ():
        waiting = status.state.waiting
        if waiting and waiting.reason in _STUCK:
            return f"pod {pod.metadata.name} does not start ({waiting.reason}: {waiting.message})"
    return None


def _page(pod: "V1Pod") -> str | None:
    """Where a pod says what it serves and refuses; None before it has an address."""
    ports = [port for container in pod.spec.containers for port in container.ports or ()]
    number = next((port.container_port for port in ports if port.name == _PAGE), None)
    return f"http://{pod.status.pod_ip}:{number}" if pod.status.pod_ip and number else None
