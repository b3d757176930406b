"""
`deploy/keyturn-cronjob.yaml`: the reminder and the tick as CronJobs.

The store is a file with one writer at a time, so both jobs use one volume, and neither
ever runs twice side by side. Written as text: no YAML library is needed to run Keyturn.
"""

from __future__ import annotations

import zlib

from keyturn.manifest import Consumer, HttpReload, KubernetesReload, Manifest
from keyturn.scaffold._kubernetes_rights import rights
from keyturn.scaffold._model import Deployment, Family, File, header
from keyturn.scaffold._words import comment, yaml_word

__all__ = ["files"]

_PATH = "deploy/keyturn-cronjob.yaml"
# Kubernetes adds a number to the name of a CronJob, and takes 52 characters of ours.
_MAX_NAME = 36

_NO_ACCOUNT = "          automountServiceAccountToken: false"
_ACCOUNT = """\
          serviceAccountName: @base@-keyturn
          automountServiceAccountToken: true"""

_PREPARE = """\
umask 077
read -r mark store </keyturn/project/.keyturn/locator
test "$mark" = keyturn-locator-1
mkdir -p "/keyturn/keys/$store"
cmp -s /keyturn/root/root.key "/keyturn/keys/$store/root.key" ||
  cp /keyturn/root/root.key "/keyturn/keys/$store/root.key"
"""

_JOB = """\
---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: @base@-keyturn-@verb@
  labels: &labels-@verb@
    app.kubernetes.io/name: keyturn
    app.kubernetes.io/instance: @base@
    app.kubernetes.io/component: @verb@
spec:
  schedule: @schedule@
  timeZone: @zone@
  # Of two at a time one would only wait for the other; neither can rotate twice.
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: @deadline@
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      # The next run goes on where this one stopped.
      backoffLimit: 0
      activeDeadlineSeconds: 3000
      template:
        metadata:
          labels: *labels-@verb@
        spec:
          restartPolicy: Never
@account@
          enableServiceLinks: false
          securityContext:
            runAsNonRoot: true
            runAsUser: 10001
            runAsGroup: 10001
            fsGroup: 10001
            # Keyturn refuses files that others may read, so modes are left as they are.
            fsGroupChangePolicy: OnRootMismatch
            seccompProfile:
              type: RuntimeDefault
          initContainers:
            - name: root-key
              image: @image@
              command: ["/bin/sh", "-euc"]
              args:
                - |
@prepare@
              securityContext: &container-@verb@
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop: ["ALL"]
              resources: &resources-@verb@
                requests: {cpu: 50m, memory: 96Mi}
                limits: {memory: 256Mi}
              volumeMounts:
                - {name: store, mountPath: /keyturn/project}
                - {name: keys, mountPath: /keyturn/keys}
                - {name: root-key, mountPath: /keyturn/root, readOnly: true}
          containers:
            - name: keyturn
              image: @image@
              command: ["keyturn", @verb_word@]
              args: ["--project-dir", "/keyturn/project", "-e", @environment@, "-q"]
              env:
                - {name: KEYTURN_HOME, value: /keyturn/keys}
                - {name: HOME, value: /tmp}
              securityContext: *container-@verb@
              resources: *resources-@verb@
              volumeMounts:
                - {name: store, mountPath: /keyturn/project}
                - {name: keys, mountPath: /keyturn/keys}
                - name: manifest
                  mountPath: /keyturn/project/keyturn.toml
                  subPath: keyturn.toml
                  readOnly: true
                - {name: scratch, mountPath: /tmp}
          volumes:
            - name: store
              persistentVolumeClaim: {claimName: @base@-keyturn-store}
            - name: keys
              persistentVolumeClaim: {claimName: @base@-keyturn-keys}
            - name: manifest
              configMap: {name: @base@-keyturn-manifest}
            - name: root-key
              secret: {secretName: @base@-keyturn-root, defaultMode: 288}
            - name: scratch
              emptyDir: {medium: Memory, sizeLimit: 16Mi}
"""


def files(manifest: Manifest, deployment: Deployment) -> list[File]:
    """Return the manifest of both jobs."""
    base = manifest.project.name[:_MAX_NAME].rstrip("-")
    allowed = rights(manifest, deployment, base)
    minute = zlib.crc32(manifest.project.name.encode()) % 60
    zone = manifest.environments[deployment.environment].timezone
    words = {
        "base": base,
        "image": yaml_word(f"{base}-keyturn:1"),
        "zone": yaml_word("Etc/UTC" if zone == "UTC" else zone),
        "environment": yaml_word(deployment.environment),
        "prepare": "".join(f"                  {line}\n" for line in _PREPARE.splitlines()).rstrip(
            "\n"
        ),
        "account": _ACCOUNT.replace("@base@", base) if allowed else _NO_ACCOUNT,
    }
    jobs = [
        _job(words, verb="remind", schedule="0 9 * * 1", deadline="86400"),
        _job(words, verb="tick", schedule=f"{minute} * * * *", deadline="1800"),
    ]
    text = "\n".join([*_notes(manifest, deployment, base), ""]) + "".join(jobs) + allowed
    return [File(Family.KUBERNETES, _PATH, text)]


def _job(words: dict[str, str], *, verb: str, schedule: str, deadline: str) -> str:
    text = _JOB
    own = {
        "verb": verb,
        "verb_word": yaml_word(verb),
        "schedule": yaml_word(schedule),
        "deadline": deadline,
    }
    for name, word in {**words, **own}.items():
        text = text.replace(f"@{name}@", word)
    return text


def _notes(manifest: Manifest, deployment: Deployment, base: str) -> list[str]:
    consumers = manifest.resolved_consumers[deployment.environment].values()
    lines = [
        f"# {header(deployment, Family.KUBERNETES)}",
        "#",
        "# It expects, in its namespace:",
        f"#   image {base}-keyturn:1   your own: Python with keyturn, /bin/sh, cmp and cp",
        f"#   ConfigMap {base}-keyturn-manifest   keyturn.toml: kubectl create configmap",
        f"#       {base}-keyturn-manifest --from-file=keyturn.toml",
        f"#   Secret {base}-keyturn-root   from the key folder: kubectl create secret generic",
        f"#       {base}-keyturn-root --from-file=root.key",
        f"#   PersistentVolumeClaim {base}-keyturn-store   .keyturn/ of the project",
        f"#   PersistentVolumeClaim {base}-keyturn-keys   what the key folder remembers",
        "# Both claims are ReadWriteOncePod: the store has one writer at a time.",
    ]
    away = sorted(each.name for each in consumers if _needs_the_machine(each))
    if away:
        lines += [
            "#",
            f"# {comment(', '.join(away))}: reached by a file, signal, unit or program on its own",
            "# machine, which no other pod has. From here only a restart of pods and a reload by",
            "# http work; a rotation of what they are given fails here and is taken back.",
        ]
    return lines


def _needs_the_machine(consumer: Consumer) -> bool:
    reload = consumer.reload
    return consumer.render is not None or not (
        reload is None or isinstance(reload, HttpReload | KubernetesReload)
    )
