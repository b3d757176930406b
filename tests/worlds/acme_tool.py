"""What a team's own program may look like: the steps of the kind `command` at the Acme service."""

from __future__ import annotations

import http.client
import json
import sys
import urllib.parse
from base64 import b64encode

REFUSED, UNAVAILABLE = 10, 75


def send(url, method, path, user, password, body=None):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)
    login = b64encode(f"{user}:{password}".encode()).decode()
    connection.request(
        method,
        path,
        body=None if body is None else json.dumps(body),
        headers={"Authorization": f"Basic {login}"},
    )
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"null")


def main():
    step, url, user = sys.argv[1:4]
    told = json.load(sys.stdin)
    admin = told["admin"]["password"]
    base = f"/admin/users/{user}/passwords"

    def administer(method, rest="", body=None):
        status, answer = send(url, method, base + rest, "admin", admin, body)
        if status in (401, 409):
            print(answer["error"], file=sys.stderr)
            sys.exit(REFUSED)
        return answer

    def hello(values):
        return send(url, "GET", "/hello", values["username"], values["password"])

    def end_labelled(label):
        for entry in administer("GET"):
            if entry["label"] == label:
                administer("DELETE", "/" + entry["id"])

    def end(values):
        status, answer = hello(values)
        if status == 200:
            administer("DELETE", "/" + answer["password_id"])

    label = f"{told['secret']}-{told['token']}"
    if step == "create":
        end_labelled(label)
        made = administer("POST", body={"label": label})
        json.dump({"username": user, "password": made["password"]}, sys.stdout)
    elif step == "withdraw" and told["pending"] is None:
        end_labelled(label)
    elif step == "withdraw":
        end(told["pending"])
    elif step == "retire":
        end(told["old"])
    elif step == "status":
        sys.exit(0 if hello(told["pending"])[0] == 200 else REFUSED)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(UNAVAILABLE)
