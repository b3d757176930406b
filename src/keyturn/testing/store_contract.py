"""
The rules of `keyturn.core.ports.Store`, as tests that every store passes.

Plain asserts are right here: this module is a test suite that ships, and no
code of Keyturn's imports it.
"""

# ruff: noqa: PLR2004, S106 - the numbers are version numbers, and tokens are not secret

from __future__ import annotations

import threading
from collections.abc import Callable

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.ports import Store
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, NotFound, Rejected
from keyturn.testing._store_moving import StoreMoving
from keyturn.testing._store_words import (
    DB,
    ELSEWHERE,
    OTHER,
    activate,
    current,
    put,
    refused,
    values,
)

__all__ = [
    "DB",
    "ELSEWHERE",
    "OTHER",
    "StoreContract",
    "activate",
    "current",
    "put",
    "refused",
    "values",
]

_AWKWARD = {
    "empty": b"",
    "newline": b"line one\nline two\n",
    "crlf": b"a\r\nb\r\n",
    "nul": b"before\x00after",
    "not_utf8": b"\xff\xfe\x80 \xc3\x28",
    "quotes": b"""'"`$(id) ${HOME} \\ %s {x}""",
    "emoji": "pässwörd \u202e 🔑".encode(),
    "every_byte": bytes(range(256)) * 16,
}
# The largest value that is tried; a store that takes less is tried with what it takes.
_LARGE_BYTES = 1024 * 1024


class StoreContract(StoreMoving):
    """
    Subclass it and provide two pytest fixtures.

    `store` gives an empty store. `reopen` gives a function that returns another
    handle on the same store, as a new process would have it; it may be called in
    another thread.
    """

    # --- put ----------------------------------------------------------------------------

    def test_storing_does_not_activate(self, store: Store) -> None:
        """A new version is pending and nothing else."""
        version = store.put_pending(
            DB, values(username=b"u", password=b"p"), origin=Origin.GENERATED, token=Token("t")
        )
        assert (version.ref, version.number, version.origin) == (DB, 1, Origin.GENERATED)
        assert version.fields == ("password", "username")
        assert not version.destroyed
        state = store.state(DB)
        assert (state.current, state.pending, state.previous) == (None, 1, None)
        assert state.next_number == 2
        refused(NotFound, lambda: store.read(DB, Stage.CURRENT))

    def test_same_token_gives_same_version(self, store: Store) -> None:
        """A write whose answer was lost is recognised when it is made again."""
        first = store.put_pending(DB, values(value=b"x"), origin=Origin.SET, token=Token("t"))
        again = store.put_pending(DB, values(value=b"x"), origin=Origin.SET, token=Token("t"))
        assert first == again
        assert len(store.history(DB)) == 1

    def test_same_token_after_promote_gives_same_version(self, store: Store) -> None:
        """It is recognised after the version moved on as well."""
        number = put(store, b"x", token="t")
        store.promote(DB, number, expected_current=None)
        assert put(store, b"x", token="t") == number
        assert store.state(DB).pending is None

    def test_same_token_with_other_values_is_refused(self, store: Store) -> None:
        """A token cannot stand for two writes."""
        put(store, b"x", token="t")
        refused(Conflict, lambda: put(store, b"y", token="t"))
        more = values(value=b"x", extra=b"")
        refused(
            Conflict,
            lambda: store.put_pending(DB, more, origin=Origin.SET, token=Token("t")),
        )
        assert store.read(DB, Stage.PENDING).values == values(value=b"x")

    def test_token_is_of_one_secret(self, store: Store) -> None:
        """The same token may be used for another secret or environment."""
        for ref in (DB, OTHER, ELSEWHERE):
            assert put(store, b"x", ref=ref, token="t") == 1

    def test_version_is_found_by_its_token(self, store: Store, reopen: Callable[[], Store]) -> None:
        """Whoever does not know whether a write was made asks by its token."""
        assert store.find(DB, Token("t")) is None
        number = put(store, b"x", token="t")
        assert store.find(DB, Token("t")) == store.history(DB)[0]
        assert store.find(DB, Token("u")) is None
        assert store.find(OTHER, Token("t")) is None
        store.promote(DB, number, expected_current=None)
        found = reopen().find(DB, Token("t"))
        assert found is not None
        assert found.number == number

    def test_second_pending_is_refused(self, store: Store) -> None:
        """What is pending is settled before something new is stored."""
        put(store, b"x", token="a")
        refused(Conflict, lambda: put(store, b"y", token="b"))
        assert len(store.history(DB)) == 1

    def test_no_fields_are_refused(self, store: Store) -> None:
        """A version has at least one field; nothing is left of the attempt."""
        refused(Rejected, lambda: store.put_pending(DB, {}, origin=Origin.SET, token=Token("t")))
        assert store.state(DB).next_number == 1

    def test_too_large_value_is_refused(self, store: Store) -> None:
        """A value over the stated limit is refused by field name, before any change."""
        data = b"x" * (store.capabilities.max_value_bytes + 1)
        error = refused(Rejected, lambda: put(store, data))
        assert "`value`" in error.message
        assert store.state(DB).next_number == 1

    def test_unacceptable_names_are_refused(self, store: Store) -> None:
        """Names that other parts would read differently never get in."""
        for name in ("", "DB", "a/b", "../a", "a\x00", "a" * 64, "ünï"):
            ref = SecretRef(DB.environment, SecretName(name))
            refused(Rejected, lambda ref=ref: put(store, b"x", ref=ref))  # type: ignore[misc]
        bad = {FieldName("Bad-Field"): SecretValue(b"x")}
        refused(Rejected, lambda: store.put_pending(DB, bad, origin=Origin.SET, token=Token("t")))

    def test_bytes_are_exact(self, store: Store, reopen: Callable[[], Store]) -> None:
        """What goes in comes out, byte for byte, here and in another process."""
        version = store.put_pending(
            DB, values(**_AWKWARD), origin=Origin.IMPORTED, token=Token("t")
        )
        store.promote(DB, version.number, expected_current=None)
        for handle in (store, reopen()):
            read = handle.read(DB, Stage.CURRENT)
            assert read.version == version
            assert {name: value.reveal() for name, value in read.values.items()} == _AWKWARD

    def test_large_value_is_exact(self, store: Store, reopen: Callable[[], Store]) -> None:
        """A value of the stated limit, up to 1 MiB, is stored whole."""
        data = (b"\x00\x01\xfe\xff" * (_LARGE_BYTES // 4))[: store.capabilities.max_value_bytes]
        activate(store, data)
        assert current(reopen()) == data

    # --- promote ------------------------------------------------------------------------

    def test_promote_moves_the_stages(self, store: Store) -> None:
        """Pending becomes current and current becomes previous, in one step."""
        activate(store, b"one")
        state = store.promote(DB, put(store, b"two"), expected_current=1)
        assert (state.current, state.pending, state.previous) == (2, None, 1)
        assert state == store.state(DB)
        assert current(store) == b"two"
        assert store.read(DB, Stage.PREVIOUS).values == values(value=b"one")

    def test_promote_previous_is_the_way_back(self, store: Store) -> None:
        """Current and previous change places."""
        activate(store, b"one")
        activate(store, b"two")
        state = store.promote(DB, 1, expected_current=2)
        assert (state.current, state.previous) == (1, 2)
        assert current(store) == b"one"

    def test_way_back_leaves_pending_alone(self, store: Store) -> None:
        """Promoting another version does not touch what is pending."""
        activate(store, b"one")
        activate(store, b"two")
        put(store, b"three")
        assert store.promote(DB, 1, expected_current=2).pending == 3

    def test_promote_again_changes_nothing(self, store: Store) -> None:
        """A promote whose answer was lost can be made again."""
        activate(store, b"one")
        number = put(store, b"two")
        first = store.promote(DB, number, expected_current=1)
        assert store.promote(DB, number, expected_current=1) == first
        assert store.promote(DB, number, expected_current=number) == first

    def test_promote_refuses_a_moved_current(self, store: Store) -> None:
        """Whoever decided on an older state loses and changes nothing."""
        activate(store, b"one")
        put(store, b"two")
        before = store.state(DB)
        refused(Conflict, lambda: store.promote(DB, 2, expected_current=None))
        refused(Conflict, lambda: store.promote(DB, 2, expected_current=7))
        assert store.state(DB) == before

    def test_promote_of_nothing_is_refused(self, store: Store) -> None:
        """A version that never was, or was destroyed, cannot be current."""
        refused(NotFound, lambda: store.promote(DB, 1, expected_current=None))
        number = put(store, b"one")
        store.discard_pending(DB, number)
        store.destroy(DB, number)
        refused(NotFound, lambda: store.promote(DB, number, expected_current=None))
        refused(NotFound, lambda: store.promote(DB, 9, expected_current=None))

    # --- discard, destroy ---------------------------------------------------------------

    def test_discard_clears_pending_and_keeps_the_version(self, store: Store) -> None:
        """The discarded version stays in the history and its number stays taken."""
        number = put(store, b"one")
        assert store.discard_pending(DB, number).pending is None
        assert store.discard_pending(DB, number).pending is None
        assert [version.number for version in store.history(DB)] == [1]
        assert store.read(DB, 1).values == values(value=b"one")
        assert put(store, b"two") == 2

    def test_discard_of_another_version_is_refused(self, store: Store) -> None:
        """Only the version that is pending can be discarded."""
        put(store, b"one")
        refused(Conflict, lambda: store.discard_pending(DB, 2))
        assert store.state(DB).pending == 1

    def test_destroy_removes_the_values_and_keeps_the_number(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        """After it nobody reads the version, and no new one gets its number."""
        number = put(store, b"one")
        store.discard_pending(DB, number)
        store.destroy(DB, number)
        store.destroy(DB, number)
        handle = reopen()
        refused(NotFound, lambda: handle.read(DB, number))
        (gone,) = handle.history(DB)
        assert (gone.number, gone.destroyed, gone.fields) == (1, True, ())
        assert put(handle, b"two") == 2

    def test_token_of_a_destroyed_version_is_refused(self, store: Store) -> None:
        """A late retry does not bring a destroyed value back."""
        number = put(store, b"one", token="t")
        store.discard_pending(DB, number)
        store.destroy(DB, number)
        refused(Conflict, lambda: put(store, b"one", token="t"))

    def test_destroy_of_a_staged_version_is_refused(self, store: Store) -> None:
        """Current, pending and previous are in use."""
        activate(store, b"one")
        activate(store, b"two")
        put(store, b"three")
        for number in (1, 2, 3):
            refused(Conflict, lambda number=number: store.destroy(DB, number))  # type: ignore[misc]
        assert current(store) == b"two"

    def test_destroy_of_nothing_is_refused(self, store: Store) -> None:
        """There must be such a version."""
        refused(NotFound, lambda: store.destroy(DB, 1))

    # --- reads --------------------------------------------------------------------------

    def test_unknown_secret_is_empty_not_an_error(self, store: Store) -> None:
        """A secret never written has a state without stages and no history."""
        state = store.state(DB)
        assert (state.current, state.pending, state.previous) == (None, None, None)
        assert state.next_number == 1
        assert list(store.history(DB)) == []
        assert store.discard_pending(DB, 1) == state
        for selector in (*Stage, 1, 0, -1):
            refused(NotFound, lambda selector=selector: store.read(DB, selector))  # type: ignore[misc]

    def test_old_versions_are_read_by_number(self, store: Store) -> None:
        """The history stays readable."""
        for data in (b"one", b"two", b"three"):
            activate(store, data)
        assert store.read(DB, 1).values == values(value=b"one")
        refused(NotFound, lambda: store.read(DB, 4))

    def test_history_is_newest_first(self, store: Store) -> None:
        """Every version is listed, the newest first."""
        for data in (b"one", b"two", b"three"):
            activate(store, data)
        assert [version.number for version in store.history(DB)] == [3, 2, 1]

    def test_read_many_gives_current_versions_only(self, store: Store) -> None:
        """Secrets without a current version are left out, others of the store too."""
        activate(store, b"db one")
        activate(store, b"db two")
        put(store, b"db three")
        put(store, b"other", ref=OTHER)
        activate(store, b"development", ref=ELSEWHERE)
        names = [DB.name, OTHER.name, SecretName("unknown"), DB.name]
        found = store.read_many(DB.environment, names)
        assert list(found) == [DB.name]
        assert found[DB.name] == store.read(DB, Stage.CURRENT)
        assert store.read_many(DB.environment, []) == {}
        assert store.read_many(EnvironmentName("empty"), names) == {}

    def test_current_versions_are_those_that_read_many_reads(self, store: Store) -> None:
        """What is known of each is the same, and no value comes with it."""
        activate(store, b"db one")
        activate(store, b"db two")
        put(store, b"db three")
        put(store, b"other", ref=OTHER)
        activate(store, b"development", ref=ELSEWHERE)
        names = [DB.name, OTHER.name, SecretName("unknown"), DB.name]
        found = store.current_versions(DB.environment, names)
        assert found == {DB.name: store.read(DB, Stage.CURRENT).version}
        assert found[DB.name].number == 2
        assert store.current_versions(DB.environment, []) == {}

    def test_states_lists_one_environment(self, store: Store) -> None:
        """Every secret of the environment is there, pending ones too, and no other."""
        activate(store, b"x")
        put(store, b"y", ref=OTHER)
        activate(store, b"z", ref=ELSEWHERE)
        states = store.states(DB.environment)
        assert dict(states) == {DB.name: store.state(DB), OTHER.name: store.state(OTHER)}

    def test_another_handle_sees_everything(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        """What one handle wrote, another reads, with the same metadata."""
        activate(store, b"one")
        activate(store, b"two")
        put(store, b"three")
        handle = reopen()
        assert handle.state(DB) == store.state(DB)
        assert list(handle.history(DB)) == list(store.history(DB))
        assert current(handle) == b"two"

    # --- two at once --------------------------------------------------------------------

    def test_one_of_two_puts_wins(self, store: Store, reopen: Callable[[], Store]) -> None:
        """Two writers at once: one version, one clean loser, every time."""
        for attempt in range(8):
            results = _race(
                reopen,
                lambda handle, who, at=attempt: put(handle, who, token=f"{at} {who!r}"),  # type: ignore[misc]
            )
            assert sorted(map(_outcome, results)) == ["conflict", "won"], results
            state = store.state(DB)
            assert state.pending == attempt + 1
            store.discard_pending(DB, attempt + 1)
        assert [version.number for version in store.history(DB)] == list(range(8, 0, -1))

    def test_one_of_two_promotes_wins(self, store: Store, reopen: Callable[[], Store]) -> None:
        """Two promotes that expect the same current: one wins, and the other hears of it."""
        numbers = {}
        for who in (b"0", b"1"):
            numbers[who] = put(store, who)
            store.discard_pending(DB, numbers[who])
        expected = None
        for _ in range(8):
            results = _race(
                reopen,
                lambda handle, who, at=expected: handle.promote(  # type: ignore[misc]
                    DB, numbers[who], expected_current=at
                ),
            )
            assert sorted(map(_outcome, results)) == ["conflict", "won"], results
            expected = activate(store, b"another")


def _race(reopen: Callable[[], Store], action: Callable[[Store, bytes], object]) -> list[object]:
    barrier = threading.Barrier(2)
    results: list[object] = []

    def run(who: bytes) -> None:
        try:
            handle = reopen()
            barrier.wait(10)
            results.append(action(handle, who))
        except Exception as error:  # noqa: BLE001 - every outcome is judged by the test
            results.append(error)

    threads = [threading.Thread(target=run, args=(who,)) for who in (b"0", b"1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def _outcome(result: object) -> str:
    if isinstance(result, Conflict):
        return "conflict"
    return f"failed: {result!r}" if isinstance(result, BaseException) else "won"
