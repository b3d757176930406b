"""
What stands between a store and moto, and answers as AWS's documentation says where moto does not.

One call at a time, so that two callers see what AWS promises them. It also loses
answers, throttles, refuses and lags when it is told to, and keeps what was asked.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import threading
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHANGING = frozenset(
    {
        "CreateSecret",
        "DeleteSecret",
        "PutSecretValue",
        "RestoreSecret",
        "RotateSecret",
        "TagResource",
        "UpdateSecretVersionStage",
    }
)
_MAX_LABELS = 20
_MAX_BYTES = 65_536


class Refusal(Exception):
    """AWS answers no."""

    def __init__(self, code, words="", status=400):
        super().__init__(code)
        self.code, self.words, self.status = code, words, status


@dataclass
class Seen:
    """One call as it came: never with its value."""

    action: str
    body: dict = field(repr=False)


class AwsFront:
    """A server of its own in front of moto; `address` is where the store goes."""

    def __init__(self, moto_address):
        self.upstream = urlsplit(moto_address).netloc
        self.calls = []
        # By action: how many of the next answers are lost after the call was carried out.
        self.lose = {}
        # The same, before it was carried out.
        self.drop = {}
        # Which of the next changes, counted from 1, gets no answer; and whether it is carried out.
        self.lose_change = 0
        self.carried_out = True
        self.throttle = 0
        # By action: the refusal that is answered instead.
        self.refuse = {}
        # How many reads of a version do not find it after it was put.
        self.lag = 0
        self._lagging = {}
        # (name, version id) of versions that AWS has dropped.
        self.gone = set()
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self):
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def calm(self):
        """Forget every fault, and what was asked."""
        self.lose, self.drop, self.refuse = {}, {}, {}
        self.throttle = self.lag = self.lose_change = 0
        self._lagging = {}
        self.calls.clear()

    def actions(self):
        """Return what was asked since `calm`, in order."""
        return [call.action for call in self.calls]

    def changes(self):
        """Return the calls that change something."""
        return [call for call in self.calls if call.action in CHANGING]

    # --- answering ----------------------------------------------------------------------

    def _handler(front):  # noqa: N805 - the handler has a self of its own
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self):
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = front.serve(self.headers, data)
                if answer is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, content = answer
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            def log_message(self, *_):
                pass

        return Handler

    def serve(self, headers, data):
        action = headers["X-Amz-Target"].rpartition(".")[2]
        body = json.loads(data)
        with self._lock:
            kept = {k: v for k, v in body.items() if k not in ("SecretString", "SecretBinary")}
            self.calls.append(Seen(action, kept))
            lost = action in CHANGING and len(self.changes()) == self.lose_change
            if self._take(self.drop, action) or (lost and not self.carried_out):
                return None
            try:
                if self.throttle > 0:
                    self.throttle -= 1
                    raise Refusal("ThrottlingException", "Rate exceeded")
                if action in self.refuse:
                    raise self.refuse[action]
                answer = self._answer(headers, action, body)
            except Refusal as error:
                said = {"__type": error.code, "message": error.words}
                return error.status, json.dumps(said).encode()
            return None if self._take(self.lose, action) or lost else answer

    @staticmethod
    def _take(counts, action):
        if counts.get(action, 0) > 0:
            counts[action] -= 1
            return True
        return False

    def _answer(self, headers, action, body):
        check = getattr(self, f"_before_{action}", None)
        if check is not None:
            check(headers, body)
        if action == "BatchGetSecretValue":
            return self._batch(headers, body)
        status, answer = self._put_current(headers, action, body) or self._ask(
            headers, action, body
        )
        if action == "PutSecretValue" and self.lag and status == 200:
            self._lagging[body["ClientRequestToken"]] = self.lag
        if action == "DescribeSecret" and status == 200:
            stages = answer.get("VersionIdsToStages") or {}
            # Versions without a label are not told of.
            answer["VersionIdsToStages"] = {i: found for i, found in stages.items() if found}
        if action == "ListSecretVersionIds" and status == 200:
            answer["Versions"] = [
                version
                for version in answer["Versions"]
                if (version["VersionStages"] or body.get("IncludeDeprecated"))
                and (answer["Name"], version["VersionId"]) not in self.gone
            ]
        return (400 if status == 404 else status), json.dumps(answer).encode()

    def _ask(self, headers, action, body):
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            kept = {
                name: text
                for name, text in headers.items()
                if name.lower() not in ("content-length", "connection", "x-amz-target")
            }
            kept["X-Amz-Target"] = f"secretsmanager.{action}"
            connection.request("POST", "/", json.dumps(body).encode(), kept)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def _described(self, headers, name):
        status, answer = self._ask(headers, "DescribeSecret", {"SecretId": name})
        return answer if status == 200 else None

    def _live(self, headers, name):
        found = self._described(headers, name)
        if found is not None and found.get("DeletedDate"):
            raise Refusal(
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
            )
        return found

    # --- where moto does otherwise ------------------------------------------------------

    def _before_CreateSecret(self, headers, body):
        found = self._described(headers, body["Name"])
        if found is not None and found.get("DeletedDate"):
            raise Refusal(
                "InvalidRequestException",
                "You can't create this secret because a secret with this name is already "
                "scheduled for deletion.",
            )
        self._check_value(body)

    def _before_PutSecretValue(self, headers, body):
        found = self._live(headers, body["SecretId"])
        self._check_value(body)
        stages = (found or {}).get("VersionIdsToStages") or {}
        known = stages.get(body["ClientRequestToken"])
        if known is None:
            self._count(stages, body.get("VersionStages", ["AWSCURRENT"]))
        else:
            self._require_same(headers, body)

    def _put_current(self, headers, action, body):
        """Put a version that is to be current; moto would take the label off the wrong one."""
        if action != "PutSecretValue" or "VersionStages" in body:
            return None
        stages = self._described(headers, body["SecretId"]).get("VersionIdsToStages") or {}
        holder = next((i for i, labels in stages.items() if "AWSCURRENT" in labels), None)
        if holder is None:
            return None
        answer = self._ask(headers, action, {**body, "VersionStages": ["front"]})
        version = body["ClientRequestToken"]
        moves = [
            {
                "VersionStage": "AWSCURRENT",
                "MoveToVersionId": version,
                "RemoveFromVersionId": holder,
            },
            {"VersionStage": "front", "RemoveFromVersionId": version},
        ]
        for move in moves:
            named = {"SecretId": body["SecretId"], **move}
            self._ask(headers, "UpdateSecretVersionStage", named)
        return answer

    def _require_same(self, headers, body):
        _, old = self._ask(
            headers,
            "GetSecretValue",
            {"SecretId": body["SecretId"], "VersionId": body["ClientRequestToken"]},
        )
        for key in ("SecretString", "SecretBinary"):
            if old.get(key) != body.get(key):
                raise Refusal("ResourceExistsException")

    def _before_UpdateSecretVersionStage(self, headers, body):
        found = self._live(headers, body["SecretId"])
        if found is None:
            return
        stages = found.get("VersionIdsToStages") or {}
        label, to = body["VersionStage"], body.get("MoveToVersionId")
        off = body.get("RemoveFromVersionId")
        if label == "AWSCURRENT" and to is None:
            raise Refusal("InvalidParameterException", "You can't remove AWSCURRENT")
        holder = next((i for i, labels in stages.items() if label in labels), None)
        if off != holder and not (off is None and to == holder):
            raise Refusal("InvalidParameterException", "The label is not where you say")
        if to is not None and (to not in stages or (body["SecretId"], to) in self.gone):
            raise Refusal("ResourceNotFoundException")
        if to is not None and off is None and holder is None:
            self._count(stages, [label])

    def _before_RotateSecret(self, headers, body):
        raise Refusal("InvalidRequestException", "No Lambda rotation function ARN is associated")

    def _before_GetSecretValue(self, headers, body):
        # moto takes what was current when the secret was last put.
        if "VersionId" not in body:
            body.setdefault("VersionStage", "AWSCURRENT")
            return
        if (body["SecretId"], body["VersionId"]) in self.gone:
            raise Refusal("ResourceNotFoundException")
        if self._lagging.get(body["VersionId"], 0) > 0:
            self._lagging[body["VersionId"]] -= 1
            raise Refusal("ResourceNotFoundException")

    def _batch(self, headers, body):
        if not 0 < len(body["SecretIdList"]) <= 20:
            raise Refusal("InvalidParameterException")
        found, errors = [], []
        for name in body["SecretIdList"]:
            asked = {"SecretId": name, "VersionStage": "AWSCURRENT"}
            status, answer = self._ask(headers, "GetSecretValue", asked)
            if status == 200:
                found.append(answer)
            else:
                errors.append({"SecretId": name, "ErrorCode": answer["__type"], "Message": ""})
        return 200, json.dumps({"SecretValues": found, "Errors": errors}).encode()

    @staticmethod
    def _check_value(body):
        text, data = body.get("SecretString"), body.get("SecretBinary")
        if text is not None and data is not None:
            raise Refusal("InvalidParameterException", "Both SecretString and SecretBinary")
        size = len(base64.b64decode(data)) if text is None and data else len((text or "").encode())
        if size > _MAX_BYTES:
            raise Refusal("InvalidParameterException", "The value is too long")

    @staticmethod
    def _count(stages, labels):
        own = {label for found in stages.values() for label in found}
        if len(own | set(labels)) > _MAX_LABELS:
            raise Refusal("LimitExceededException", "Too many staging labels")
