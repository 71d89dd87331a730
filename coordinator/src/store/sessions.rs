//! Tables `run_sessions` (one claim of a run each) and `run_timeline` (where the time before the stages went).

use std::net::IpAddr;

use rusqlite::{Row, named_params, params};
use vetting_protocol::ids::{RunId, Sha256Hex};

use super::{Connection, StoreError, row, runs};
use crate::clock::timestamp_text;

/// Key of a row in `run_sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

/// A claimed session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Key.
    pub id: SessionId,
    /// The run.
    pub run_id: RunId,
    /// When it was claimed, ms since the epoch.
    pub claimed_at_ms: i64,
    /// The address it was claimed from.
    pub claimed_from: String,
    /// The boot it was claimed in.
    pub boot_id: String,
    /// The last batch that is applied; 0 before the first.
    pub last_sequence: u64,
    /// A later session of the run was claimed: this one's token counts no more.
    pub superseded: bool,
}

/// Who claims, and what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The run that the claim names.
    pub run_id: RunId,
    /// Of the one-time secret.
    pub secret_hash: Sha256Hex,
    /// Of the new token.
    pub token_hash: Sha256Hex,
    /// The boot.
    pub boot_id: String,
    /// The address it comes from.
    pub from: String,
    /// Ms since the epoch.
    pub now_ms: i64,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The session is the claimer's.
    Claimed {
        /// It.
        session: SessionId,
    },
    /// The secret was exchanged before.
    AlreadyUsed {
        /// For this one. The same boot_id with `last_sequence` 0 is an agent that missed its answer: [`reissue_token`].
        session: SessionRow,
    },
    /// The secret is too old.
    Expired,
    /// No such secret, or it is another run's.
    Unknown,
}

/// What a batch's number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceStep {
    /// It is the next one: apply its records in this same job.
    Applied,
    /// It was applied before: acknowledge it and do nothing.
    Duplicate,
    /// Others are missing before it: apply nothing.
    Gap {
        /// The next one.
        expected: u64,
    },
}

/// A moment or span of `run_timeline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimelineEntry {
    /// Magic packet sent, ms since the epoch.
    Woken(i64),
    /// Boot script served, ms since the epoch.
    ScriptServed(i64),
    /// Kernel and initramfs sent whole, ms since the epoch.
    ImageServed(i64),
    /// Run claimed, ms since the epoch.
    Claimed(i64),
    /// From the kernel's start to PID 1, ms.
    KernelToInit(u64),
    /// From the kernel's start to the first address, ms.
    KernelToNetwork(u64),
    /// From the kernel's start to the claim, ms.
    KernelToClaim(u64),
    /// The agent was heard, ms since the epoch, and whence.
    LastContact(i64, IpAddr),
}

/// `run_timeline`; each absent until it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeline {
    /// Magic packet sent, ms since the epoch.
    pub woken_ms: Option<i64>,
    /// Boot script served, ms since the epoch.
    pub script_served_ms: Option<i64>,
    /// Kernel and initramfs sent whole, ms since the epoch.
    pub image_served_ms: Option<i64>,
    /// Run claimed, ms since the epoch.
    pub claimed_ms: Option<i64>,
    /// From the kernel's start to PID 1, ms.
    pub kernel_to_init_ms: Option<u64>,
    /// From the kernel's start to the first address, ms.
    pub kernel_to_network_ms: Option<u64>,
    /// From the kernel's start to the claim, ms.
    pub kernel_to_claim_ms: Option<u64>,
    /// The agent was heard last, ms since the epoch.
    pub last_contact_ms: Option<i64>,
    /// Whence it was heard last.
    pub last_contact_ip: Option<IpAddr>,
    /// The run is in its state since, ms since the epoch.
    pub state_since_ms: Option<i64>,
}

const FORGET_UNCLAIMED: &str = "DELETE FROM run_sessions WHERE run_id = ?1 AND claimed_at IS NULL";
const OFFER: &str = "INSERT INTO run_sessions (run_id, claim_secret_hash, claim_expires_at, created_at)
     VALUES (?1, ?2, ?3, ?4)";
const BY_SECRET: &str =
    "SELECT *, 0 AS superseded FROM run_sessions WHERE run_id = ?1 AND claim_secret_hash = ?2";
const CLAIM: &str = "UPDATE run_sessions SET claimed_at = :now, claimed_from = :from, boot_id = :boot,
     token_hash = :token WHERE id = :id";
const BY_TOKEN: &str = "SELECT *, EXISTS (SELECT 1 FROM run_sessions AS later
       WHERE later.run_id = run_sessions.run_id AND later.id > run_sessions.id AND later.claimed_at IS NOT NULL)
     AS superseded FROM run_sessions WHERE token_hash = ?1 AND claimed_at IS NOT NULL";
const LATEST: &str = "SELECT *, 0 AS superseded FROM run_sessions
     WHERE run_id = ?1 AND claimed_at IS NOT NULL ORDER BY id DESC LIMIT 1";
const REISSUE: &str = "UPDATE run_sessions SET token_hash = ?2 WHERE id = ?1 AND claimed_at IS NOT NULL";
const LAST_SEQUENCE: &str = "SELECT last_sequence FROM run_sessions WHERE id = ?1";
const SET_SEQUENCE: &str = "UPDATE run_sessions SET last_sequence = ?2 WHERE id = ?1";

fn session(row: &Row<'_>) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id: SessionId(row.get("id")?),
        run_id: RunId(row.get("run_id")?),
        claimed_at_ms: row::time(row, ("run_sessions", "claimed_at"))?,
        claimed_from: row.get("claimed_from")?,
        boot_id: row.get("boot_id")?,
        last_sequence: row::integer(row, ("run_sessions", "last_sequence"))?,
        superseded: row.get("superseded")?,
    })
}

/// Gives a run a new one-time secret, in place of one that nobody has used.
pub fn offer_claim(
    connection: &Connection,
    run: RunId,
    secret_hash: Sha256Hex,
    now_ms: i64,
    expires_at_ms: i64,
) -> Result<SessionId, StoreError> {
    revoke_claim(connection, run)?;
    connection.prepare_cached(OFFER)?.execute(params![
        run.0,
        secret_hash.to_string(),
        timestamp_text(expires_at_ms)?,
        timestamp_text(now_ms)?
    ])?;
    Ok(SessionId(connection.last_insert_rowid()))
}

/// Forgets the secret that nobody has used.
pub fn revoke_claim(connection: &Connection, run: RunId) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET_UNCLAIMED)?.execute([run.0])?;
    Ok(())
}

/// Exchanges a one-time secret for a session, whose token is the only one of the run from now on.
pub fn claim(connection: &Connection, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
    let mut by_secret = connection.prepare_cached(BY_SECRET)?;
    let mut rows = by_secret.query(params![claim.run_id.0, claim.secret_hash.to_string()])?;
    let Some(found) = rows.next()? else { return Ok(ClaimOutcome::Unknown) };
    if row::time_or_null(found, ("run_sessions", "claimed_at"))?.is_some() {
        return Ok(ClaimOutcome::AlreadyUsed { session: session(found)? });
    }
    if row::time(found, ("run_sessions", "claim_expires_at"))? <= claim.now_ms {
        return Ok(ClaimOutcome::Expired);
    }
    let id: i64 = found.get("id")?;
    connection.prepare_cached(CLAIM)?.execute(named_params! {
        ":id": id,
        ":now": timestamp_text(claim.now_ms)?,
        ":from": claim.from,
        ":boot": claim.boot_id,
        ":token": claim.token_hash.to_string(),
    })?;
    runs::set_agent_token_hash(connection, claim.run_id, claim.token_hash)?;
    Ok(ClaimOutcome::Claimed { session: SessionId(id) })
}

/// Gives a session another token, for an agent that never saw the first.
///
/// # Errors
/// [`StoreError::NotFound`] if the session is not claimed.
pub fn reissue_token(
    connection: &Connection,
    session: &SessionRow,
    token_hash: Sha256Hex,
) -> Result<(), StoreError> {
    let changed =
        connection.prepare_cached(REISSUE)?.execute(params![session.id.0, token_hash.to_string()])?;
    if changed == 0 {
        return Err(StoreError::not_found(format!("claimed session {}", session.id.0)));
    }
    runs::set_agent_token_hash(connection, session.run_id, token_hash)
}

/// The session that a token belongs to. Look at `superseded` before trusting it.
pub fn by_token(connection: &Connection, token_hash: Sha256Hex) -> Result<Option<SessionRow>, StoreError> {
    connection.prepare_cached(BY_TOKEN)?.query_and_then([token_hash.to_string()], session)?.next().transpose()
}

/// The session of a run that was claimed last.
pub fn latest_claimed(connection: &Connection, run: RunId) -> Result<Option<SessionRow>, StoreError> {
    connection.prepare_cached(LATEST)?.query_and_then([run.0], session)?.next().transpose()
}

/// The last batch that is applied; 0 before the first.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn last_sequence(connection: &Connection, session: SessionId) -> Result<u64, StoreError> {
    connection
        .prepare_cached(LAST_SEQUENCE)?
        .query_and_then([session.0], |row| row::integer(row, ("run_sessions", "last_sequence")))?
        .next()
        .unwrap_or_else(|| Err(StoreError::not_found(format!("session {}", session.0))))
}

/// Takes note of a batch's number. To be called in the job that applies the batch.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn advance_sequence(
    connection: &Connection,
    session: SessionId,
    sequence: u64,
) -> Result<SequenceStep, StoreError> {
    let last = last_sequence(connection, session)?;
    if sequence <= last {
        return Ok(SequenceStep::Duplicate);
    }
    if sequence > last + 1 {
        return Ok(SequenceStep::Gap { expected: last + 1 });
    }
    let number = row::signed(sequence, "run_sessions.last_sequence")?;
    connection.prepare_cached(SET_SEQUENCE)?.execute(params![session.0, number])?;
    Ok(SequenceStep::Applied)
}

const SET_WOKEN: &str = "INSERT INTO run_timeline (run_id, woken_ms) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET woken_ms = excluded.woken_ms";
const SET_SCRIPT: &str = "INSERT INTO run_timeline (run_id, script_served_ms) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET script_served_ms = excluded.script_served_ms";
const SET_IMAGE: &str = "INSERT INTO run_timeline (run_id, image_served_ms) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET image_served_ms = excluded.image_served_ms";
const SET_CLAIMED: &str = "INSERT INTO run_timeline (run_id, claimed_ms) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET claimed_ms = excluded.claimed_ms";
const SET_TO_INIT: &str = "INSERT INTO run_timeline (run_id, kernel_to_init_ms) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET kernel_to_init_ms = excluded.kernel_to_init_ms";
const SET_TO_NETWORK: &str = "INSERT INTO run_timeline (run_id, kernel_to_network_ms) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET kernel_to_network_ms = excluded.kernel_to_network_ms";
const SET_TO_CLAIM: &str = "INSERT INTO run_timeline (run_id, kernel_to_claim_ms) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET kernel_to_claim_ms = excluded.kernel_to_claim_ms";
const SET_CONTACT: &str =
    "INSERT INTO run_timeline (run_id, last_contact_ms, last_contact_ip) VALUES (?1, ?2, ?3)
     ON CONFLICT (run_id) DO UPDATE SET last_contact_ms = excluded.last_contact_ms,
       last_contact_ip = excluded.last_contact_ip";
const GET_TIMELINE: &str = "SELECT * FROM run_timeline WHERE run_id = ?1";

/// Notes one entry, in place of an earlier one.
pub fn note(connection: &Connection, run: RunId, entry: TimelineEntry) -> Result<(), StoreError> {
    let (sql, value) = match entry {
        TimelineEntry::Woken(ms) => (SET_WOKEN, ms),
        TimelineEntry::ScriptServed(ms) => (SET_SCRIPT, ms),
        TimelineEntry::ImageServed(ms) => (SET_IMAGE, ms),
        TimelineEntry::Claimed(ms) => (SET_CLAIMED, ms),
        TimelineEntry::KernelToInit(ms) => (SET_TO_INIT, row::signed(ms, "run_timeline.kernel_to_init_ms")?),
        TimelineEntry::KernelToNetwork(ms) => {
            (SET_TO_NETWORK, row::signed(ms, "run_timeline.kernel_to_network_ms")?)
        }
        TimelineEntry::KernelToClaim(ms) => {
            (SET_TO_CLAIM, row::signed(ms, "run_timeline.kernel_to_claim_ms")?)
        }
        TimelineEntry::LastContact(ms, ip) => {
            connection.prepare_cached(SET_CONTACT)?.execute(params![run.0, ms, ip.to_string()])?;
            return Ok(());
        }
    };
    connection.prepare_cached(sql)?.execute(params![run.0, value])?;
    Ok(())
}

/// What is known so far.
pub fn timeline(connection: &Connection, run: RunId) -> Result<Timeline, StoreError> {
    let mut statement = connection.prepare_cached(GET_TIMELINE)?;
    let mut rows = statement.query([run.0])?;
    let Some(row) = rows.next()? else { return Ok(Timeline::default()) };
    Ok(Timeline {
        woken_ms: row.get("woken_ms")?,
        script_served_ms: row.get("script_served_ms")?,
        image_served_ms: row.get("image_served_ms")?,
        claimed_ms: row.get("claimed_ms")?,
        kernel_to_init_ms: row::integer_or_null(row, ("run_timeline", "kernel_to_init_ms"))?,
        kernel_to_network_ms: row::integer_or_null(row, ("run_timeline", "kernel_to_network_ms"))?,
        kernel_to_claim_ms: row::integer_or_null(row, ("run_timeline", "kernel_to_claim_ms"))?,
        last_contact_ms: row.get("last_contact_ms")?,
        last_contact_ip: row::parsed_or_null(row, ("run_timeline", "last_contact_ip"))?,
        state_since_ms: row.get("state_since_ms")?,
    })
}
