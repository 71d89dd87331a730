//! A machine asks for its boot script: who is it, is a run waiting for it, which secret may it claim the run with.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::{HostId, MacAddress, RunId};
use vetting_protocol::plan::StageWork;
use vetting_protocol::run::{BootTarget, RunPlace, RunState};
use vetting_protocol::secret::Secret;

use super::driver::{Driver, to_its_end, transition};
use super::error::RunError;
use super::power::controls;
use super::secrets;
use super::state::RunEvent;
use crate::serial_console::{MachinePort, SerialConsole};
use crate::store::events::{self, EventValues};
use crate::store::runs::RunRow;
use crate::store::sessions::{self, TimelineEntry};
use crate::store::{Connection, StoreError, enrolment, hosts, runs, serial_consoles};

/// An unknown machine that boots over and over is told of once in this time.
const UNKNOWN_AGAIN_MS: i64 = 10 * 60 * 1_000;
/// Unknown machines that are remembered; more are told of no more until a restart: anyone can make up addresses.
const MOST_UNKNOWN: usize = 1_000;

/// A machine that should boot memtest86+ waits so long for its serial line to be open.
const LINE_PATIENCE: Duration = Duration::from_secs(15);

/// A request for a boot script.
#[derive(Debug, Clone, Copy)]
pub struct ScriptRequest {
    /// The card it boots from.
    pub mac: MacAddress,
    /// Whence it came.
    pub remote: SocketAddr,
    /// Whether its boot loader can start memtest86+, which nobody has signed for Secure Boot.
    pub starts_memtest: bool,
}

/// What the script says.
#[derive(Debug)]
pub enum BootAnswer {
    /// Nobody registered this machine.
    Unknown,
    /// Nobody did, but it may boot the live image and ask to be taken in.
    Enrol {
        /// The coordinator's clock.
        now_ms: i64,
    },
    /// Nothing to do here.
    LocalDisk {
        /// Its name.
        host_name: String,
    },
    /// Boot memtest86+.
    Memtest {
        /// Its name.
        host_name: String,
        /// The run.
        run_id: RunId,
        /// The machine's port that our serial line ends at; absent where nobody watches.
        port: Option<MachinePort>,
    },
    /// Boot the live image and claim the run.
    Live {
        /// Its name.
        host_name: String,
        /// The run.
        run_id: RunId,
        /// Good once.
        claim_secret: Secret,
        /// The coordinator's clock.
        now_ms: i64,
        /// Patterns of the kernel's early memory test, which comes before the live image; absent: it is not run.
        memtest_patterns: Option<u8>,
    },
}

/// Who asks to boot from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Netbooter {
    /// A registered machine.
    Host {
        /// Its name.
        name: String,
    },
    /// Nobody registered it, and it may ask to be taken in.
    Newcomer,
    /// Nobody registered it.
    Stranger,
}

impl Driver {
    /// Decides what a machine boots. A new secret makes every older one of the run invalid.
    pub async fn boot_script(&self, request: ScriptRequest) -> Result<BootAnswer, RunError> {
        let driver = self.clone();
        to_its_end(async move { driver.make_script(request).await }).await
    }

    async fn make_script(&self, request: ScriptRequest) -> Result<BootAnswer, RunError> {
        let ScriptRequest { mac, remote, starts_memtest } = request;
        let now_ms = self.clock.now_ms();
        let found = self
            .store
            .read(move |connection| {
                let Some(host) = hosts::by_mac(connection, mac)? else { return Ok(None) };
                let run = runs::active_of_host(connection, host.id)?;
                let console = serial_consoles::get(connection, host.id)?;
                let powered = controls(connection, host.id)?.is_some();
                Ok::<_, RunError>(Some((host, run, console, powered)))
            })
            .await?;
        let Some((host, run, console, powered)) = found else {
            if self.may_enrol(mac, now_ms).await? {
                tracing::info!(%mac, %remote, "an unknown machine boots to be enrolled");
                return Ok(BootAnswer::Enrol { now_ms });
            }
            if let Err(error) = self.tell_of_unknown(mac, remote, now_ms).await {
                // a machine that is none of ours starts whether or not our disk takes the note
                tracing::warn!(%mac, error = %crate::error_chain(&error), "an unknown machine was not noted");
            }
            return Ok(BootAnswer::Unknown);
        };
        let host_name = host.name;
        let Some(run) = run.filter(boots_live) else {
            return Ok(BootAnswer::LocalDisk { host_name });
        };
        let run_id = run.id;
        let memtest_patterns = match run.next_boot_target {
            Some(BootTarget::Memtest) if run.state == RunState::Rebooting => {
                match self.memtest_port(run_id, console, powered, starts_memtest).await? {
                    Some(port) => return Ok(BootAnswer::Memtest { host_name, run_id, port }),
                    None => None,
                }
            }
            Some(BootTarget::MemtestKernel) if run.state == RunState::Rebooting => {
                self.memtest_patterns(run).await?
            }
            Some(
                BootTarget::Linux
                | BootTarget::LinuxCold
                | BootTarget::Memtest
                | BootTarget::MemtestKernel
                | BootTarget::Disk,
            )
            | None => None,
        };
        let why = format!("boot script served to {mac} at {}", remote.ip());
        Ok(match self.offer(run_id, why, now_ms).await? {
            Some(claim_secret) => {
                BootAnswer::Live { host_name, run_id, claim_secret, now_ms, memtest_patterns }
            }
            None => BootAnswer::LocalDisk { host_name },
        })
    }

    /// The port that memtest86+ shall use on a machine that a stage sent into it, if it is watched; `None` if it is kept
    /// out, which is noted.
    async fn memtest_port(
        &self,
        run: RunId,
        console: Option<SerialConsole>,
        powered: bool,
        starts_memtest: bool,
    ) -> Result<Option<Option<MachinePort>>, RunError> {
        let why = match console {
            _ if !starts_memtest => "its boot loader is that of Secure Boot, which starts no memtest86+",
            Some(console) if self.line_is_open(run, LINE_PATIENCE).await => {
                return Ok(Some(Some(console.machine_port)));
            }
            // the stage goes there without a line only where it is wanted so, and the power brings it back
            None if powered => return Ok(Some(None)),
            Some(_) | None => "its serial line is not open",
        };
        self.keep_out_of_memtest(run, why).await?;
        Ok(None)
    }

    /// How many patterns the kernel's memory test goes through in a run.
    async fn memtest_patterns(&self, run: RunRow) -> Result<Option<u8>, StoreError> {
        let driver = self.clone();
        let planned = self.store.read(move |connection| driver.planned(connection, &run)).await?;
        Ok(planned.into_iter().find_map(|planned| {
            if let StageWork::Memtest { kernel_patterns, .. } = planned.work {
                Some(kernel_patterns)
            } else {
                None
            }
        }))
    }

    /// The run that waits for this machine, if there is one.
    pub(super) fn waiting_run(connection: &Connection, host: HostId) -> Result<Option<RunId>, StoreError> {
        Ok(runs::active_of_host(connection, host)?.filter(boots_live).map(|run| run.id))
    }

    /// Makes a claim secret for a waiting run; `None` if the run ended meanwhile.
    pub(super) async fn offer(
        &self,
        run_id: RunId,
        why: String,
        now_ms: i64,
    ) -> Result<Option<Secret>, RunError> {
        let claim_secret = secrets::fresh()?;
        let hash = claim_secret.sha256();
        let expires_ms = now_ms.saturating_add(self.settings.claim_valid_ms);
        let served = self
            .store
            .write(move |connection| {
                let done = transition(connection, now_ms, run_id, RunEvent::BootScriptServed, &why, None)?;
                sessions::offer_claim(connection, run_id, hash, now_ms, expires_ms)?;
                if done.state == RunState::Booting {
                    sessions::note(connection, run_id, TimelineEntry::ScriptServed(now_ms))?;
                }
                Ok::<_, RunError>(done)
            })
            .await;
        match served {
            Ok(done) => self.perform(done),
            // it ended between the look and the answer
            Err(RunError::NotNow { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(claim_secret))
    }

    /// Whether an unknown machine may boot the live image to ask to be taken in.
    async fn may_enrol(&self, mac: MacAddress, now_ms: i64) -> Result<bool, RunError> {
        if !self.settings.enrolment.unknown_may_netboot {
            return Ok(false);
        }
        let since_ms = now_ms.saturating_sub(self.settings.enrolment.code_valid_ms);
        let turned_away: Result<_, StoreError> =
            self.store.read(move |connection| enrolment::turned_away(connection, mac, since_ms)).await;
        Ok(!turned_away?)
    }

    /// Who asks to boot from the network; of a machine that nobody registered and that may not enrol the event log tells.
    pub async fn who_netboots(&self, mac: MacAddress, remote: SocketAddr) -> Result<Netbooter, RunError> {
        if let Some(name) = self.name_of(mac).await? {
            return Ok(Netbooter::Host { name });
        }
        let now_ms = self.clock.now_ms();
        if self.may_enrol(mac, now_ms).await? {
            return Ok(Netbooter::Newcomer);
        }
        self.tell_of_unknown(mac, remote, now_ms).await?;
        Ok(Netbooter::Stranger)
    }

    /// The host with this card, by name.
    pub async fn name_of(&self, mac: MacAddress) -> Result<Option<String>, RunError> {
        let host = self.store.read(move |connection| hosts::by_mac(connection, mac)).await?;
        Ok(host.map(|host| host.name))
    }

    /// Notes a warning about how this machine boots.
    pub async fn netboot_warning(
        &self,
        mac: MacAddress,
        kind: &str,
        message: String,
        data: serde_json::Value,
    ) -> Result<(), RunError> {
        let (ts_ms, kind) = (self.clock.now_ms(), kind.to_owned());
        let noted = self.store.write(move |connection| {
            let host_id = hosts::by_mac(connection, mac)?.map(|host| host.id);
            let data = Some(data);
            let level = EventLevel::Warning;
            events::insert(
                connection,
                &EventValues { run_id: None, host_id, ts_ms, level, kind, message, data },
            )?;
            Ok::<_, RunError>(())
        });
        noted.await
    }

    /// Notes that a machine has its live image whole. Only the boot timeline depends on it.
    pub async fn image_served(&self, mac: MacAddress) {
        let now_ms = self.clock.now_ms();
        let noted = self
            .store
            .write(move |connection| {
                if let Some(host) = hosts::by_mac(connection, mac)?
                    && let Some(run) = runs::active_of_host(connection, host.id)?
                    && run.state == RunState::Booting
                {
                    sessions::note(connection, run.id, TimelineEntry::ImageServed(now_ms))?;
                }
                Ok::<_, RunError>(())
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(%mac, error = %crate::error_chain(&error), "the image's time was not noted");
        }
    }

    async fn tell_of_unknown(
        &self,
        mac: MacAddress,
        remote: SocketAddr,
        now_ms: i64,
    ) -> Result<(), RunError> {
        {
            let mut memory = self.memory();
            let unknown = &mut memory.unknown;
            let told_ms = unknown.get(&mac).copied();
            if told_ms.is_some_and(|told_ms| now_ms - told_ms < UNKNOWN_AGAIN_MS)
                || (told_ms.is_none() && unknown.len() >= MOST_UNKNOWN)
            {
                return Ok(());
            }
            unknown.insert(mac, now_ms);
        }
        tracing::warn!(%mac, %remote, "an unknown machine asks to boot");
        let asks = if remote.ip().is_unspecified() {
            "asks by DHCP where to boot from".to_owned()
        } else {
            format!("at {} asks for a boot script", remote.ip())
        };
        let message =
            format!("unknown machine {mac} {asks}; `host add NAME --mac {mac} --spec FILE` registers it");
        let line = EventValues {
            run_id: None,
            host_id: None,
            ts_ms: now_ms,
            level: EventLevel::Warning,
            kind: "unknown_machine".to_owned(),
            message,
            data: Some(json!({"mac": mac, "remote": remote.ip()})),
        };
        self.store.write(move |connection| events::insert(connection, &line)).await?;
        Ok(())
    }
}

/// Whether the machine of a run gets the live image. Not for a run on its installed system.
fn boots_live(run: &RunRow) -> bool {
    if run.override_flags.place == RunPlace::InstalledSystem {
        return false;
    }
    match run.state {
        RunState::Queued | RunState::Waking | RunState::Booting | RunState::Running | RunState::Rebooting => {
            true
        }
        RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released
        | RunState::Aborted => false,
    }
}
