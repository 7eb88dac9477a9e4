"""docs/when-things-break.md: each row of its table has a test. `ROWS` names it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# How a row begins, and the tests, by file and the beginning of their names.
ROWS = {
    "the server ended an idle": ["outages::test_dead_sockets_are_found", "outages::test_wait_timeout_of_the_server"],
    "the network drops idle flows": [
        "bad_days::test_forgotten_flows_cost_one_statement",
        "bad_days::test_one_silent_connection_costs_a_part",
        "ageing::test_a_keepalive_without_an_answer_holds_up_no_caller",
    ],
    "the network drops new flows": [
        "bad_days::test_a_network_that_swallows_new_flows_too",
        "bad_days::test_attempts_on_forgotten_flows_hold_no_capacity",
    ],
    "the server is frozen": ["bad_days::test_a_frozen_server_holds_a_statement"],
    "the server's machine is gone": ["dead_machine::test_a_statement_to_a_machine_that_is_gone"],
    "the server goes away during": [
        "promises::test_a_statement_whose_connection_is_lost_is_not_sent_again",
        "outages::test_a_restart_under_load_fails_only_what_was_in_flight",
    ],
    "the server is down; a proxy": [
        "outages::test_while_the_server_is_down_one_prober_tries",
        "outages::test_fail_fast_tells_the_cause",
        "bad_days::test_a_proxy_that_accepts_and_closes",
        "bad_days::test_what_does_not_speak_mysql",
        "bad_days::test_a_name_that_resolves_to_nothing",
        "recovery::test_while_the_server_is_down_one_tries_and_only_after_the_delay",
    ],
    "half of all connects": ["bad_days::test_half_of_all_connects_refused"],
    "a caller's own time": ["bad_days::test_callers_of_little_patience_say_nothing_of_the_server"],
    "the server comes back": [
        "recovery::test_from_its_return_on_one_more_may_connect",
        "recovery::test_40_threads_do_not_storm",
    ],
    "the server is full": [
        "bad_days::test_a_full_server_is_waited_for",
        "bad_days::test_with_connections_of_its_own",
    ],
    "the account is locked": [
        "bad_days::test_a_refused_login_is_the_same_error",
        "bad_days::test_a_certificate_that_is_not_trusted",
        "bad_days::test_a_session_whose_password_has_expired",
    ],
    "`init_command`, `sql_mode`": ["bad_days::test_a_set_up_that_fails"],
    "1045, where `password`": [
        "outages::test_a_rotated_password_is_asked_for_again",
        "outages::test_a_password_that_is_wrong_twice",
    ],
    "all connections are lent": [
        "pool::test_waiters_are_served_in_order_of_arrival",
        "reports::test_each_holder_is_named",
    ],
    "more callers wait": ["pool::test_max_waiting_refuses_at_once"],
    "one thread borrows twice": ["outages::test_nested_borrowing_is_named"],
    "all holders of a connection": [
        "deadlock::test_by_default_one_warning_names_the_holders",
        "deadlock::test_of_many_that_wait_for_each_other",
        "deadlock::test_a_circle_over_two_pools",
    ],
    "an exception, KeyboardInterrupt": [
        "interrupts::test_capacity_and_answers_survive",
        "gevent::test_killed_and_timed_out_greenlets",
    ],
    "rows were left unread": ["protocol::test_an_unread_second_result_is_discarded"],
    "a connection was never given back": [
        "pool::test_a_lease_that_was_dropped_is_reclaimed_and_logged",
        "pool::test_the_lease_of_a_dead_thread_is_reclaimed",
        "capacity::test_a_connection_of_an_event_loop_that_has_ended",
    ],
    "you use a connection after": ["pool::test_the_second_close_and_any_use_after_it"],
    "two threads use one": ["protocol::test_another_thread_in_mid_query_is_refused"],
    "a fork": ["fork::test_a_lease_that_came_along_is_refused", "prefork::test_gunicorn_with_preload"],
    "the server became read-only": [
        "bad_days::test_writers_of_a_server_that_became_read_only",
        "bad_days::test_a_refusal_of_the_statement_is_no_failover",
    ],
    "the same with `role=": [
        "bad_days::test_a_pool_of_a_primary_waits_for_one",
        "bad_days::test_a_node_without_quorum",
        "bad_days::test_an_idle_connection_of_a_demoted_primary",
    ],
    "the process ends": ["endings::test_the_end_of_the_interpreter_is_quick_and_quiet"],
}
WITHOUT = "the name server hangs"  # says what no deadline bounds: the system's resolver


def rows() -> list[str]:
    lines = [line for line in (ROOT / "docs/when-things-break.md").read_text().splitlines() if line.startswith("|")]
    return [line.strip("| ") for line in lines[2:]]


def test_each_row_has_its_tests() -> None:
    said = [row for row in rows() if not row.startswith(WITHOUT)]
    assert len(said) == len(rows()) - 1
    assert [row for row in said if sum(row.startswith(start) for start in ROWS) != 1] == []
    assert [start for start in ROWS if not any(row.startswith(start) for row in said)] == []


@pytest.mark.parametrize("name", sorted({name for names in ROWS.values() for name in names}))
def test_the_tests_that_are_named_exist(name: str) -> None:
    file, function = name.split("::")
    assert f"\ndef {function}" in (ROOT / f"tests/core/test_{file}.py").read_text()
