//! Failed machines that are kept up for a person: the key that lets one in, the way in, and the end of the hold.
//!
//! The private key is made for one hold, lies in the run's folder for as long as that lasts (artifact `hold_key`, for
//! its owner alone), and is never in the database, a log or an event.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::json;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey, PublicKey};
use vetting_judge::duration::HumanDuration;
use vetting_protocol::agent_api::{Acknowledgement, AfterRun, EventLevel, HoldReport, SshAccess};
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{HoldView, RunRelease, SshView};
use vetting_protocol::run::RunState;

use super::claim::Session;
use super::driver::{Driver, of_run, to_its_end, transition};
use super::error::RunError;
use super::secrets::RandomError;
use super::state::RunEvent;
use super::upload::{HOLD_KEY, Stored};
use crate::clock::seconds_text;
use crate::durable_file;
use crate::error_chain;
use crate::store::events::EventValues;
use crate::store::runs::{self, RunRow};
use crate::store::{Connection, StoreError, artifacts, events, holds, sessions};

/// Longest public key of a machine's SSH server that is believed, bytes.
const MOST_KEY_BYTES: usize = 1_000;
/// Longest reason why there is no SSH server that is kept, characters.
const MOST_REASON_CHARS: usize = 300;

/// The key of one hold, on disk and waiting for its rows.
pub(super) struct HoldKey {
    private: Stored,
    public: String,
}

impl HoldKey {
    /// Writes the rows of a run that is held from now on.
    pub fn insert(&self, connection: &Connection, run: RunId) -> Result<(), StoreError> {
        self.private.insert(connection, run)?;
        holds::begin(connection, run, &self.public)
    }
}

fn key_path(folder: &Path) -> PathBuf {
    folder.join(HOLD_KEY)
}

/// The machine's own key as `ssh` looks it up, so that nobody else answers in its place.
fn known_hosts_path(folder: &Path) -> PathBuf {
    folder.join("hold_known_hosts")
}

/// A fresh key pair: the private one as OpenSSH reads it, the public one as a line of `authorized_keys`.
fn fresh_pair(run: RunId) -> Result<(String, String), RunError> {
    let mut seed = [0_u8; 32];
    getrandom::fill(&mut seed).map_err(|source| RandomError { source })?;
    let failed = |error: ssh_key::Error| RunError::Corrupt { run, what: format!("its hold key: {error}") };
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(pair, format!("vetting run {run}")).map_err(failed)?;
    let private = key.to_openssh(LineEnding::LF).map_err(failed)?;
    let public = key.public_key().to_openssh().map_err(failed)?;
    Ok((private.to_string(), public))
}

/// Removes the files of a hold. What is gone already is well.
fn remove_files(folder: &Path) -> Result<(), RunError> {
    for path in [key_path(folder), known_hosts_path(folder)] {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(RunError::Io { path, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// A line of `known_hosts`: another port than 22 stands with the address in brackets.
fn known_hosts_line(address: &str, port: u16, host_key: &str) -> String {
    match port {
        22 => format!("{address} {host_key}"),
        port => format!("[{address}]:{port} {host_key}"),
    }
}

/// What a machine says of its SSH server, checked: it goes into files and commands.
fn checked(access: SshAccess) -> Result<SshAccess, RunError> {
    match access {
        SshAccess::Open { port, host_key } => {
            let refused = || RunError::Invalid { what: "the host key is no OpenSSH public key".to_owned() };
            if host_key.len() > MOST_KEY_BYTES {
                return Err(refused());
            }
            let key = PublicKey::from_openssh(&host_key).map_err(|_| refused())?;
            // without its comment, and as this box writes it
            let bare = PublicKey::from(key.key_data().clone());
            let host_key = bare.to_openssh().map_err(|_| refused())?.trim_end().to_owned();
            Ok(SshAccess::Open { port, host_key })
        }
        SshAccess::Closed { reason } => {
            let plain = reason.chars().filter(|character| !character.is_control());
            Ok(SshAccess::Closed { reason: plain.take(MOST_REASON_CHARS).collect() })
        }
    }
}

fn ssh_command(folder: &Path, address: &str, port: u16) -> String {
    let port = if port == 22 { String::new() } else { format!(" -p {port}") };
    format!(
        "ssh -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={}{port} root@{address}",
        key_path(folder).display(),
        known_hosts_path(folder).display()
    )
}

/// How to get in to a held machine; absent for a run that holds none.
pub(super) fn view(
    connection: &Connection,
    row: &RunRow,
    folder: &Path,
    hold_ms: i64,
) -> Result<Option<HoldView>, StoreError> {
    if row.state != RunState::FailedHolding {
        return Ok(None);
    }
    let since_ms = sessions::timeline(connection, row.id)?.state_since_ms.unwrap_or(row.started_at_ms);
    let until = seconds_text(since_ms.saturating_add(hold_ms))?;
    let access = holds::get(connection, row.id)?.and_then(|hold| hold.access);
    let (ssh, problem) = match (access, &row.hold_ip) {
        (Some(SshAccess::Open { port, host_key }), Some(address)) => {
            let known_hosts_line = known_hosts_line(address, port, &host_key);
            let command = ssh_command(folder, address, port);
            (Some(SshView { address: address.clone(), port, known_hosts_line, command }), None)
        }
        (Some(SshAccess::Open { .. }), None) => (None, Some("the machine's address is not known".to_owned())),
        (Some(SshAccess::Closed { reason }), _) => (None, Some(reason)),
        (None, _) => (None, None),
    };
    Ok(Some(HoldView { until, ssh, problem }))
}

impl Driver {
    /// Makes the key of a hold.
    pub(super) async fn make_hold_key(&self, run: RunId) -> Result<HoldKey, RunError> {
        let folder = self.run_dir(run);
        tokio::task::spawn_blocking(move || {
            let (private, public) = fresh_pair(run)?;
            std::fs::create_dir_all(&folder)
                .map_err(|source| RunError::Io { path: folder.clone(), source })?;
            let path = key_path(&folder);
            durable_file::write(&path, 0o600, private.as_bytes())?;
            Ok(HoldKey { private: Stored::of(HOLD_KEY, path, private.as_bytes()), public })
        })
        .await?
    }

    /// Removes the key of a hold that is over, or of one that did not come to be.
    pub(super) async fn forget_hold_key(&self, run: RunId) -> Result<(), RunError> {
        let folder = self.run_dir(run);
        tokio::task::spawn_blocking(move || remove_files(&folder)).await??;
        self.store.write(move |connection| artifacts::forget(connection, run, HOLD_KEY)).await?;
        Ok(())
    }

    /// The same, where nobody waits for it: what stays is removed at the next start.
    pub(super) fn start_forgetting_hold_key(&self, run: RunId) {
        let driver = self.clone();
        tokio::spawn(async move {
            let forgetting = driver.clone();
            if let Err(error) = to_its_end(async move { forgetting.forget_hold_key(run).await }).await {
                tracing::error!(%run, error = %error_chain(&error), "the key of a hold that is over stays");
            }
        });
    }

    /// Removes keys of holds that ended when this coordinator could not.
    pub(super) async fn sweep_hold_keys(&self) -> Result<(), RunError> {
        let left: Result<_, StoreError> =
            self.store.read(|connection| holds::keys_left(connection, HOLD_KEY)).await;
        for run in left? {
            self.forget_hold_key(run).await?;
        }
        Ok(())
    }

    /// A held machine tells how a person gets in.
    pub async fn hold_report(
        &self,
        session: Session,
        report: HoldReport,
        remote: SocketAddr,
    ) -> Result<Acknowledgement, RunError> {
        let run = session.run;
        if session.boot_id != report.boot_id {
            return Err(RunError::OtherBoot { run });
        }
        let access = checked(report.access)?;
        let folder = self.run_dir(run);
        let address = address_text(remote.ip());
        if let SshAccess::Open { port, host_key } = &access {
            let line = format!("{}\n", known_hosts_line(&address, *port, host_key));
            let path = known_hosts_path(&folder);
            tokio::task::spawn_blocking(move || durable_file::write(&path, 0o644, line.as_bytes())).await??;
        }
        let now_ms = self.clock.now_ms();
        self.store
            .write(move |connection| {
                // it may have been let go meanwhile; the answer tells it so
                if runs::get(connection, run)?.state != RunState::FailedHolding {
                    return Ok(());
                }
                sessions::note(connection, run, sessions::TimelineEntry::LastContact(now_ms, remote.ip()))?;
                holds::set_access(connection, run, &access)?;
                let line = match &access {
                    SshAccess::Open { port, .. } => {
                        let command = ssh_command(&folder, &address, *port);
                        let message = format!("the machine lets you in: `run ssh {run}`, or here: {command}");
                        let mut line = of_run(run, now_ms, EventLevel::Info, "hold_open", message);
                        line.data = Some(json!({"address": address, "port": port}));
                        line
                    }
                    SshAccess::Closed { reason } => {
                        let message = format!("the machine is held, but nobody can log in: {reason}");
                        of_run(run, now_ms, EventLevel::Warning, "hold_closed", message)
                    }
                };
                events::insert(connection, &line)?;
                Ok::<_, RunError>(())
            })
            .await?;
        self.acknowledge(run).await
    }

    /// Tells once that a hold ends soon.
    pub(super) async fn warn_of_hold_end(&self, run: RunId, left_ms: i64) -> Result<(), RunError> {
        let now_ms = self.clock.now_ms();
        self.store
            .write(move |connection| {
                if holds::get(connection, run)?.is_none_or(|hold| hold.warned) {
                    return Ok(());
                }
                holds::set_warned(connection, run)?;
                let left = HumanDuration::from_ms(u64::try_from(left_ms).unwrap_or(0) / 1_000 * 1_000);
                let message = format!(
                    "the held machine is let go in {left}; `run retry`, `run resume` or `run release` before that"
                );
                let line = of_run(run, now_ms, EventLevel::Warning, "hold_ending", message);
                events::insert(connection, &line)?;
                Ok::<_, RunError>(())
            })
            .await
    }

    /// Lets a held machine go. `line` says who ordered it.
    pub async fn release(
        &self,
        run: RunId,
        order: RunRelease,
        line: EventValues,
    ) -> Result<RunState, RunError> {
        let then = order.then.unwrap_or(AfterRun::PowerOff);
        if then == AfterRun::Stay {
            let what = "a machine that is let go does not stay: say `power_off` or `reboot`".to_owned();
            return Err(RunError::Invalid { what });
        }
        let (now_ms, driver) = (self.clock.now_ms(), self.clone());
        to_its_end(async move {
            let done = driver
                .store
                .write(move |connection| {
                    let why = format!("an operator released the machine ({then})");
                    let done = transition(connection, now_ms, run, RunEvent::ReleaseRequested, &why, None)?;
                    // one that is released already goes as it was told first
                    if done.moved() {
                        holds::set_release(connection, run, then)?;
                    }
                    events::insert(connection, &line)?;
                    Ok::<_, RunError>(done)
                })
                .await?;
            let state = done.state;
            driver.perform(done);
            Ok(state)
        })
        .await
    }
}

/// An IPv4 address that came over an IPv6 socket is one.
fn address_text(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST_KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio root@(none)";

    #[test]
    fn a_pair_is_two_halves_of_one_key_and_never_the_same() {
        let (private, public) = fresh_pair(RunId(7)).unwrap();
        let read = PrivateKey::from_openssh(&private).unwrap();
        assert_eq!(read.public_key().to_openssh().unwrap(), public);
        assert!(public.starts_with("ssh-ed25519 ") && public.ends_with(" vetting run 7"), "{public}");
        assert_ne!(fresh_pair(RunId(7)).unwrap().1, public);
    }

    #[test]
    fn a_host_key_loses_its_comment_and_nothing_else_is_taken_for_one() {
        let told = |host_key: &str| checked(SshAccess::Open { port: 22, host_key: host_key.to_owned() });
        let SshAccess::Open { host_key, .. } = told(HOST_KEY).unwrap() else { panic!() };
        assert_eq!(host_key, HOST_KEY.trim_end_matches(" root@(none)"));
        let long = format!("{HOST_KEY}{}", "x".repeat(MOST_KEY_BYTES));
        for key in ["", "ssh-ed25519", "ssh-ed25519 AAAA\n* ssh-ed25519 AAAA", "ssh-rsa ;reboot", &long] {
            assert!(matches!(told(key), Err(RunError::Invalid { .. })), "{key}");
        }
        let reason = format!("a\u{1b}[2J{}", "x".repeat(1_000));
        let SshAccess::Closed { reason } = checked(SshAccess::Closed { reason }).unwrap() else { panic!() };
        assert!(reason.starts_with("a[2J") && reason.len() == MOST_REASON_CHARS);
    }

    #[test]
    fn another_port_is_written_as_ssh_looks_it_up() {
        assert_eq!(known_hosts_line("192.0.2.7", 22, "k"), "192.0.2.7 k");
        assert_eq!(known_hosts_line("fd00::7", 2222, "k"), "[fd00::7]:2222 k");
    }

    #[test]
    fn an_address_behind_a_mapped_one_is_the_one_that_is_shown() {
        assert_eq!(address_text("::ffff:192.0.2.7".parse().unwrap()), "192.0.2.7");
    }
}
