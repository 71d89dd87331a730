//! Brings a database to the schema of this version. Each file runs once, in name order, in a transaction of its own.
//! Refuses a database that another version's files made: it would not be the one the SQL of this version expects.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use vetting_protocol::ids::Sha256Hex;

use super::StoreError;
use crate::clock::{Clock, timestamp_text};

/// One file of `migrations/`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

macro_rules! migration {
    ($name:literal) => {
        Migration { name: $name, sql: include_str!(concat!("../../../migrations/", $name)) }
    };
}

/// Every migration, in name order.
pub(super) const MIGRATIONS: &[Migration] = &[
    migration!("0001_init.sql"),
    migration!("0002_add_hosts_last_seen_at.sql"),
    migration!("0003_add_runs_non_destructive.sql"),
    migration!("0004_add_sub_steps.sql"),
    migration!("0005_profiles_thresholds_firmware.sql"),
    migration!("0006_run_control.sql"),
    migration!("0007_enrolment.sql"),
    migration!("0008_imported_runs.sql"),
    migration!("0009_hardware_limits.sql"),
    migration!("0010_planned_reboots.sql"),
    migration!("0012_waivers.sql"),
    migration!("0013_rules_models_components.sql"),
    migration!("0014_holds.sql"),
    migration!("0016_host_agents.sql"),
    migration!("0017_power_of_reboots.sql"),
    migration!("0019_notifications_and_removed_files.sql"),
    migration!("0020_users.sql"),
    migration!("0023_turns.sql"),
    migration!("0024_crashes.sql"),
    migration!("0025_sample_counts.sql"),
    migration!("0026_waiver_callers.sql"),
    migration!("0027_stage_parameters.sql"),
    migration!("0028_events_of_attempts.sql"),
];

const CREATE_LIST: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    name       TEXT PRIMARY KEY,
    sha256     TEXT NOT NULL,
    applied_at TIMESTAMP NOT NULL
)";
const LIST: &str = "SELECT name FROM schema_migrations ORDER BY name";
const DIGEST: &str = "SELECT sha256 FROM schema_migrations WHERE name = ?1";
const RECORD: &str = "INSERT INTO schema_migrations (name, sha256, applied_at) VALUES (?1, ?2, ?3)";

/// Applies what is missing and names it.
///
/// # Errors
/// The database is of a newer version or of changed files, is locked, or the disk is full.
pub(super) fn apply(
    connection: &mut Connection,
    migrations: &[Migration],
    clock: &Clock,
) -> Result<Vec<&'static str>, StoreError> {
    connection.execute(CREATE_LIST, [])?;
    let recorded = recorded(connection, migrations)?;
    let mut applied = Vec::new();
    for migration in migrations {
        let digest = Sha256Hex::of(migration.sql.as_bytes()).to_string();
        // another process may be at the same: the lock comes before the look
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: Option<String> =
            transaction.query_row(DIGEST, [migration.name], |row| row.get(0)).optional()?;
        match found {
            Some(found) if found == digest => {}
            Some(_) => return Err(StoreError::MigrationChanged { name: migration.name.to_owned() }),
            None if recorded.iter().any(|name| name.as_str() > migration.name) => {
                return Err(StoreError::MigrationMissing { name: migration.name.to_owned() });
            }
            None => {
                transaction.execute_batch(migration.sql)?;
                transaction
                    .execute(RECORD, params![migration.name, digest, timestamp_text(clock.now_ms())?])?;
                transaction.commit()?;
                applied.push(migration.name);
            }
        }
    }
    Ok(applied)
}

/// The migrations that a database has.
///
/// # Errors
/// One is none of `migrations`: the database is of a newer version.
pub(super) fn recorded(connection: &Connection, migrations: &[Migration]) -> Result<Vec<String>, StoreError> {
    let recorded: Vec<String> =
        connection.prepare(LIST)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    match recorded.iter().find(|name| migrations.iter().all(|known| known.name != **name)) {
        Some(unknown) => Err(StoreError::NewerDatabase { name: unknown.clone() }),
        None => Ok(recorded),
    }
}
