//! The schema against the contract, which is written here as a table of its own, independent of the migrations.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::{Scratch, scratch};

/// NOT NULL.
const N: bool = true;
/// May be NULL.
const O: bool = false;

struct Table {
    name: &'static str,
    /// Name, type, not null, default as SQLite tells it. `id` of every table but `settings` is checked apart.
    columns: &'static [(&'static str, &'static str, bool, Option<&'static str>)],
    /// Column, table, what a deletion does.
    foreign_keys: &'static [(&'static str, &'static str, &'static str)],
    uniques: &'static [&'static [&'static str]],
    indices: &'static [(&'static str, &'static [&'static str])],
}

const NOW: Option<&str> = Some("CURRENT_TIMESTAMP");
const RUN: (&str, &str, &str) = ("run_id", "runs", "CASCADE");
const STAGE: (&str, &str, &str) = ("stage_id", "stages", "SET NULL");

const CONTRACT: &[Table] = &[
    Table {
        name: "hosts",
        columns: &[
            ("name", "TEXT", N, None),
            ("mac", "TEXT", N, None),
            ("wol_broadcast_ip", "TEXT", N, None),
            ("wol_port", "INTEGER", N, Some("9")),
            ("expected_spec_yaml", "TEXT", N, None),
            ("pdu_config_json", "TEXT", O, None),
            ("ipmi_config_json", "TEXT", O, None),
            ("notes", "TEXT", N, Some("''")),
            ("created_at", "TIMESTAMP", N, NOW),
            ("updated_at", "TIMESTAMP", N, NOW),
            ("last_seen_at", "TIMESTAMP", O, None),
        ],
        foreign_keys: &[],
        uniques: &[&["name"], &["mac"]],
        indices: &[],
    },
    Table {
        name: "runs",
        columns: &[
            ("host_id", "INTEGER", N, None),
            ("state", "TEXT", N, None),
            ("result", "TEXT", O, None),
            ("failed_stage", "TEXT", O, None),
            ("next_boot_target", "TEXT", O, None),
            ("agent_token_hash", "TEXT", N, None),
            ("started_at", "TIMESTAMP", N, NOW),
            ("completed_at", "TIMESTAMP", O, None),
            ("report_path", "TEXT", O, None),
            ("hold_ip", "TEXT", O, None),
            ("override_flags_json", "TEXT", O, None),
            ("non_destructive", "INTEGER", N, Some("0")),
            ("profile", "TEXT", N, Some("'quick'")),
        ],
        foreign_keys: &[("host_id", "hosts", "CASCADE")],
        uniques: &[],
        indices: &[("idx_runs_host", &["host_id"]), ("idx_runs_state", &["state"])],
    },
    Table {
        name: "stages",
        columns: &[
            ("run_id", "INTEGER", N, None),
            ("name", "TEXT", N, None),
            ("ordinal", "INTEGER", N, None),
            ("state", "TEXT", N, None),
            ("started_at", "TIMESTAMP", O, None),
            ("completed_at", "TIMESTAMP", O, None),
            ("summary_json", "TEXT", O, None),
        ],
        foreign_keys: &[RUN],
        uniques: &[],
        indices: &[("idx_stages_run_ordinal", &["run_id", "ordinal"])],
    },
    Table {
        name: "sub_steps",
        columns: &[
            ("run_id", "INTEGER", N, None),
            ("stage_name", "TEXT", N, None),
            ("ordinal", "INTEGER", N, None),
            ("name", "TEXT", N, None),
            ("state", "TEXT", N, Some("'pending'")),
            ("started_at", "TIMESTAMP", O, None),
            ("completed_at", "TIMESTAMP", O, None),
            ("summary_json", "TEXT", N, Some("'{}'")),
        ],
        foreign_keys: &[RUN],
        uniques: &[&["run_id", "stage_name", "ordinal"]],
        indices: &[("idx_sub_steps_run", &["run_id", "stage_name", "ordinal"])],
    },
    Table {
        name: "measurements",
        columns: &[
            ("run_id", "INTEGER", N, None),
            ("stage_id", "INTEGER", O, None),
            ("ts", "TIMESTAMP", N, None),
            ("kind", "TEXT", N, None),
            ("key", "TEXT", N, None),
            ("value", "REAL", O, None),
            ("unit", "TEXT", O, None),
        ],
        foreign_keys: &[RUN, STAGE],
        uniques: &[],
        indices: &[("idx_measurements_run_kind_ts", &["run_id", "kind", "ts"])],
    },
    Table {
        name: "artifacts",
        columns: &[
            ("run_id", "INTEGER", N, None),
            ("stage_id", "INTEGER", O, None),
            ("kind", "TEXT", N, None),
            ("path", "TEXT", N, None),
            ("sha256", "TEXT", N, None),
            ("size_bytes", "INTEGER", N, None),
        ],
        foreign_keys: &[RUN, STAGE],
        uniques: &[],
        indices: &[],
    },
    Table {
        name: "spec_diffs",
        columns: &[
            ("run_id", "INTEGER", N, None),
            ("field", "TEXT", N, None),
            ("expected", "TEXT", O, None),
            ("actual", "TEXT", O, None),
            ("severity", "TEXT", N, None),
            ("ignored", "INTEGER", N, Some("0")),
        ],
        foreign_keys: &[RUN],
        uniques: &[],
        indices: &[],
    },
    Table {
        name: "thresholds",
        columns: &[
            ("run_id", "INTEGER", N, None),
            ("stage_name", "TEXT", N, None),
            ("kind", "TEXT", N, None),
            ("key", "TEXT", N, None),
            ("op", "TEXT", N, None),
            ("threshold", "REAL", N, None),
            ("nominal", "REAL", N, Some("0")),
            ("unit", "TEXT", N, Some("''")),
            ("severity", "TEXT", N, None),
            ("source", "TEXT", N, None),
        ],
        foreign_keys: &[RUN],
        uniques: &[],
        indices: &[
            ("idx_thresholds_run", &["run_id"]),
            ("idx_thresholds_kind", &["run_id", "stage_name", "kind"]),
        ],
    },
    Table {
        name: "threshold_evaluations",
        columns: &[
            ("run_id", "INTEGER", N, None),
            ("threshold_id", "INTEGER", N, None),
            ("stage_name", "TEXT", N, None),
            ("kind", "TEXT", N, None),
            ("key", "TEXT", N, None),
            ("ts", "TIMESTAMP", N, None),
            ("observed", "REAL", N, None),
            ("passed", "INTEGER", N, None),
        ],
        foreign_keys: &[RUN, ("threshold_id", "thresholds", "CASCADE")],
        uniques: &[],
        indices: &[("idx_threshold_evals_run", &["run_id", "passed"])],
    },
    Table {
        name: "firmware_snapshots",
        columns: &[
            ("run_id", "INTEGER", N, None),
            ("component", "TEXT", N, None),
            ("identifier", "TEXT", N, None),
            ("version", "TEXT", N, None),
            ("vendor", "TEXT", N, Some("''")),
            ("raw_json", "TEXT", N, Some("'{}'")),
        ],
        foreign_keys: &[RUN],
        uniques: &[],
        indices: &[("idx_firmware_run", &["run_id", "component"])],
    },
    Table {
        name: "events",
        columns: &[
            ("run_id", "INTEGER", O, None),
            ("host_id", "INTEGER", O, None),
            ("ts", "TIMESTAMP", N, None),
            ("level", "TEXT", N, None),
            ("kind", "TEXT", N, None),
            ("message", "TEXT", N, None),
            ("data_json", "TEXT", O, None),
        ],
        foreign_keys: &[RUN, ("host_id", "hosts", "CASCADE")],
        uniques: &[],
        indices: &[],
    },
    Table {
        name: "settings",
        columns: &[("value", "TEXT", N, None)],
        foreign_keys: &[],
        uniques: &[],
        indices: &[],
    },
];

/// What the product has beyond the contract.
const OWN_TABLES: &[&str] = &[
    "schema_migrations",
    "run_sessions",
    "run_plan_stages",
    "run_stage_changes",
    "run_timeline",
    "run_verdicts",
    "operator_tokens",
    "host_macs",
    "host_identities",
    "enrolment_tokens",
    "enrolments",
    "imported_runs",
    "hardware_limits",
    "hardware_limit_evaluations",
    "fallback_thresholds",
    "planned_reboots",
    "host_serial_consoles",
    "waivers",
    "run_judgements",
    "threshold_terms",
    "models",
    "run_specs",
    "run_components",
    "run_metrics",
    "run_sample_counts",
    "run_holds",
    "run_reopenings",
    "stage_attempts",
    "host_agents",
    "host_inventories",
    "notifications",
    "artifact_removals",
    "users",
    "user_sessions",
    "turns",
    "host_burn_watts",
    "unexplained_crashes",
];

/// Indexes on the contract's tables that the product adds: table, name, columns.
const OWN_INDICES: &[(&str, &str, &[&str])] = &[
    ("threshold_evaluations", "idx_threshold_evals_threshold", &["threshold_id"]),
    ("measurements", "idx_measurements_stage", &["stage_id"]),
    ("events", "idx_events_run", &["run_id", "id"]),
    ("events", "idx_events_host", &["host_id"]),
    ("artifacts", "idx_artifacts_run", &["run_id"]),
    ("artifacts", "idx_artifacts_stage", &["stage_id"]),
    ("spec_diffs", "idx_spec_diffs_run", &["run_id"]),
];

type ColumnFacts = (String, bool, Option<String>, bool);

fn columns(connection: &Connection, table: &str) -> BTreeMap<String, ColumnFacts> {
    connection
        .prepare("SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1)")
        .unwrap()
        .query_map([table], |row| {
            Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?, row.get::<_, i64>(4)? > 0)))
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn index_columns(connection: &Connection, index: &str) -> Vec<String> {
    connection
        .prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")
        .unwrap()
        .query_map([index], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// (name, columns, unique, partial) of each index with this origin: `c` by CREATE INDEX, `u` by UNIQUE.
fn indices(connection: &Connection, table: &str, origin: &str) -> Vec<(String, Vec<String>, bool, bool)> {
    connection
        .prepare("SELECT name, \"unique\", partial FROM pragma_index_list(?1) WHERE origin = ?2")
        .unwrap()
        .query_map([table, origin], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(|row| {
            let (name, unique, partial) = row.unwrap();
            let columns = index_columns(connection, &name);
            (name, columns, unique, partial)
        })
        .collect()
}

fn foreign_keys(connection: &Connection, table: &str) -> BTreeSet<(String, String, String, String)> {
    connection
        .prepare(
            "SELECT \"from\", \"table\", COALESCE(\"to\", 'id'), on_delete FROM pragma_foreign_key_list(?1)",
        )
        .unwrap()
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn every_table_column_key_and_index_is_the_contracts() {
    let Scratch { store, .. } = &scratch();
    store
        .read_blocking(|connection| -> Result<(), super::StoreError> {
            let connection = connection.raw();
            for table in CONTRACT {
                check(connection, table);
            }
            Ok(())
        })
        .unwrap();
}

fn check(connection: &Connection, table: &Table) {
    let name = table.name;
    let mut expected: BTreeMap<String, ColumnFacts> = table
        .columns
        .iter()
        .map(|(column, kind, not_null, default)| {
            ((*column).to_owned(), ((*kind).to_owned(), *not_null, default.map(str::to_owned), false))
        })
        .collect();
    let key = if name == "settings" { ("key", "TEXT") } else { ("id", "INTEGER") };
    expected.insert(key.0.to_owned(), (key.1.to_owned(), false, None, true));
    assert_eq!(columns(connection, name), expected, "columns of {name}");

    let sql: String = connection
        .query_row("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?1", [name], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(sql.contains("AUTOINCREMENT"), name != "settings", "AUTOINCREMENT of {name}");

    let expected: BTreeSet<_> = table
        .foreign_keys
        .iter()
        .map(|(column, to, action)| {
            ((*column).to_owned(), (*to).to_owned(), "id".to_owned(), (*action).to_owned())
        })
        .collect();
    assert_eq!(foreign_keys(connection, name), expected, "foreign keys of {name}");

    let uniques: BTreeSet<_> = indices(connection, name, "u").into_iter().map(|index| index.1).collect();
    let expected: BTreeSet<_> = table.uniques.iter().map(|columns| owned(columns)).collect();
    assert_eq!(uniques, expected, "uniques of {name}");

    let found: BTreeSet<_> = indices(connection, name, "c").into_iter().collect();
    let expected: BTreeSet<_> = table
        .indices
        .iter()
        .copied()
        .chain(OWN_INDICES.iter().filter(|own| own.0 == name).map(|(_, index, columns)| (*index, *columns)))
        .map(|(index, columns)| (index.to_owned(), owned(columns), false, false))
        .collect();
    assert_eq!(found, expected, "indices of {name}");
}

#[test]
fn there_is_no_table_but_the_contracts_and_the_products_own() {
    let Scratch { store, .. } = &scratch();
    let found: BTreeSet<String> = store
        .read_blocking(|connection| -> Result<_, super::StoreError> {
            let connection = connection.raw();
            Ok(connection
                .prepare("SELECT name FROM sqlite_master WHERE type IN ('table', 'view', 'trigger')")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?)
        })
        .unwrap();
    let expected: BTreeSet<String> = CONTRACT
        .iter()
        .map(|table| table.name)
        .chain(OWN_TABLES.iter().copied())
        .chain(["sqlite_sequence"])
        .map(str::to_owned)
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn every_connection_keeps_the_contracts_pragmas() {
    let Scratch { store, .. } = &scratch();
    let pragmas = |connection: &crate::store::Connection| -> Result<(String, i64, i64), super::StoreError> {
        let connection = connection.raw();
        Ok((
            connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?,
            connection.query_row("PRAGMA foreign_keys", [], |row| row.get(0))?,
            connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?,
        ))
    };
    assert_eq!(store.read_blocking(pragmas).unwrap(), ("wal".to_owned(), 1, 2));
    assert_eq!(store.write_blocking(pragmas).unwrap(), ("wal".to_owned(), 1, 2));
}

/// Each step of a cascade looks its rows up by one of these; a scan would take the writer away for minutes.
#[test]
fn a_removal_scans_no_table_that_grows() {
    let Scratch { store, .. } = &scratch();
    let plans: Vec<(&str, String)> = store
        .read_blocking(|connection| -> Result<_, super::StoreError> {
            let connection = connection.raw();
            CONTRACT
                .iter()
                .flat_map(|table| table.foreign_keys.iter().map(|(column, ..)| (table.name, *column)))
                .map(|(table, column)| {
                    let sql = format!("EXPLAIN QUERY PLAN DELETE FROM {table} WHERE {column} = 1");
                    Ok((table, connection.query_row(&sql, [], |row| row.get(3))?))
                })
                .collect()
        })
        .unwrap();
    for (table, plan) in plans {
        assert!(plan.contains("USING") && plan.contains("INDEX"), "{table}: {plan}");
    }
}
