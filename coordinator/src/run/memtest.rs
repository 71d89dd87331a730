//! The task that holds the serial line of a machine in memtest86+: opens it, notes what is seen, tells the progress,
//! and ends memtest86+ when it has done its passes. One a machine; a restarted coordinator takes it up again.
//!
//! What was seen is durable before anything follows from it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use vetting_judge::memtest;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::memtest::{MemtestEnd, MemtestObservation};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;
use vetting_protocol::run::{BootTarget, RunState};

use super::driver::{Driver, of_run};
use super::error::RunError;
use super::live::Progress;
use crate::memtest::watch::{Decision, Wanted, Watch};
use crate::serial_console::{OpenLine, Opener};
use crate::store::reboots::RebootRow;
use crate::store::{Connection, events, reboots, runs, serial_consoles};

/// How often decisions are made and changes noted.
const TICK: Duration = Duration::from_secs(1);
/// After a line that could not be opened, or was cut.
const REOPEN: Duration = Duration::from_secs(5);
/// What makes memtest86+ restart the machine.
const ESCAPE: &[u8] = b"\x1b";
/// How often it is sent at most.
const MOST_ESCAPES: u32 = 10;
/// memtest86+ sees a key within a second.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// It redraws every two seconds.
const STILL_DRAWS: Duration = Duration::from_secs(5);

/// A machine that is watched.
pub(super) struct Watched {
    /// Whether its serial line is open.
    open: watch::Receiver<bool>,
    task: AbortHandle,
}

/// Where a machine is that a stage sent into memtest86+.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    /// On its way there: what comes over the line is not of this memtest86+.
    Loading,
    /// It has loaded memtest86+.
    InMemtest,
    /// Back, or its run is over.
    NotAway,
}

/// What the task works with.
struct Job {
    run: RunId,
    reboot: RebootRow,
    wanted: Wanted,
    opener: Box<dyn Opener>,
}

impl Driver {
    /// Watches the machine of a run that is away in memtest86+, unless that is done already.
    pub(super) fn watch_memtest(&self, run: RunId) {
        let mut memory = self.memory();
        if memory.watched.contains_key(&run) {
            return;
        }
        let (connected, open) = watch::channel(false);
        let driver = self.clone();
        let task = tokio::spawn(async move {
            let watched = match driver.memtest_job(run).await {
                Ok(Some(job)) => driver.hold_line(job, connected).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = watched {
                tracing::error!(%run, error = %crate::error_chain(&error), "memtest86+ is not watched any more");
            }
            driver.memory().watched.remove(&run);
        });
        memory.watched.insert(run, Watched { open, task: task.abort_handle() });
    }

    /// Hangs up every serial line. What was seen is noted; the next coordinator takes it up.
    pub fn hang_up(&self) {
        self.memory().watched.drain().for_each(|(_, watched)| watched.task.abort());
    }

    /// Whether the machine's serial line is open; waits for it at most so long.
    pub(super) async fn line_is_open(&self, run: RunId, patience: Duration) -> bool {
        let Some(mut connected) = self.memory().watched.get(&run).map(|watched| watched.open.clone()) else {
            return false;
        };
        matches!(tokio::time::timeout(patience, connected.wait_for(|open| *open)).await, Ok(Ok(_)))
    }

    async fn memtest_job(&self, run: RunId) -> Result<Option<Job>, RunError> {
        let driver = self.clone();
        self.store
            .read(move |connection| {
                let Some(reboot) = reboots::away(connection, run)? else { return Ok(None) };
                let row = runs::get(connection, run)?;
                let console = serial_consoles::get(connection, row.host_id)?;
                let (Some(console), BootTarget::Memtest) = (console, reboot.target) else { return Ok(None) };
                let passes = driver.planned(connection, &row)?.into_iter().find_map(|planned| {
                    if let StageWork::Memtest { passes, .. } = planned.work { Some(passes) } else { None }
                });
                let appears_ms = driver.settings.limits.reboot_ms;
                let wanted = Wanted {
                    // a profile that has lost the stage meanwhile: what is seen then passes nothing
                    passes: passes.unwrap_or(0).max(1),
                    budget: duration(reboot.budget_ms),
                    appears_within: duration(appears_ms),
                };
                let opener = console.line.opener(&driver.settings.ipmi);
                Ok::<_, RunError>(Some(Job { run, reboot, wanted, opener }))
            })
            .await
    }

    /// Holds the line until the machine is back, or the run over.
    async fn hold_line(&self, job: Job, connected: watch::Sender<bool>) -> Result<(), RunError> {
        let begin_ms = self.clock.steady_ms();
        let before = job.reboot.memtest.clone().unwrap_or_else(MemtestObservation::nothing);
        // an earlier coordinator may have come to the end and not to the ESC
        let ended = before.end.is_some_and(|end| end != MemtestEnd::NoLine);
        let mut watch = Watch::new(job.wanted, before);
        let mut told_of_trouble = false;
        while self.whereabouts(job.run).await? != Whereabouts::NotAway {
            match job.opener.open().await {
                Ok(line) => {
                    connected.send_replace(true);
                    watch.reconnected();
                    let over = if ended {
                        self.leave(&job, line).await?
                    } else {
                        self.follow(&job, &mut watch, line, begin_ms).await?
                    };
                    connected.send_replace(false);
                    if over {
                        return Ok(());
                    }
                    tracing::warn!(run = %job.run, "the serial line was cut; it is opened anew");
                }
                Err(error) if !told_of_trouble => {
                    told_of_trouble = true;
                    let message = format!("no serial line to the machine: {}", crate::error_chain(&error));
                    self.tell(job.run, EventLevel::Warning, "serial_line", message).await?;
                }
                Err(error) => {
                    tracing::debug!(run = %job.run, error = %crate::error_chain(&error), "no serial line");
                }
            }
            tokio::time::sleep(REOPEN).await;
        }
        Ok(())
    }

    /// Reads an open line to the end of memtest86+; gives whether all is done, or the line was cut.
    async fn follow(
        &self,
        job: &Job,
        watch: &mut Watch,
        mut line: Box<dyn OpenLine>,
        begin_ms: i64,
    ) -> Result<bool, RunError> {
        let mut tick = tokio::time::interval(TICK);
        let mut bytes = [0_u8; 4096];
        let mut noted = watch.seen().clone();
        let mut whereabouts = Whereabouts::Loading;
        loop {
            let now = duration(self.clock.steady_ms().saturating_sub(begin_ms));
            tokio::select! {
                read = line.read(&mut bytes) => match read {
                    Ok(0) | Err(_) => return Ok(false),
                    Ok(count) => {
                        if whereabouts == Whereabouts::Loading {
                            whereabouts = self.whereabouts(job.run).await?;
                        }
                        // a console server may begin with what it kept of an earlier memtest86+
                        if whereabouts == Whereabouts::InMemtest {
                            watch.heard(bytes.get(..count).unwrap_or_default(), now);
                        }
                    }
                },
                _ = tick.tick() => {
                    let decision = watch.decide(now);
                    if *watch.seen() != noted {
                        self.note(job, &noted, watch.seen()).await?;
                        noted = watch.seen().clone();
                    }
                    self.tell_progress(job, watch.percent()).await?;
                    whereabouts = self.whereabouts(job.run).await?;
                    if matches!(decision, Decision::Leave(_)) || whereabouts == Whereabouts::NotAway {
                        return self.leave(job, line).await;
                    }
                }
            }
        }
    }

    /// Ends memtest86+. One ESC should do; more come only while memtest86+ still draws, since the firmware after it
    /// would take them for a wish to see its menus.
    async fn leave(&self, job: &Job, mut line: Box<dyn OpenLine>) -> Result<bool, RunError> {
        for _ in 0..MOST_ESCAPES {
            if line.write_all(ESCAPE).await.is_err() || line.flush().await.is_err() {
                return Ok(false);
            }
            // what was drawn before it saw the key is still on its way
            let _ = read_for(&mut line, UNDER_WAY, &mut |_| {}).await;
            let mut after = Watch::new(job.wanted, MemtestObservation::nothing());
            let read =
                read_for(&mut line, STILL_DRAWS, &mut |bytes| after.heard(bytes, Duration::ZERO)).await;
            if read.is_err()
                || after.seen().program.is_none()
                || self.whereabouts(job.run).await? == Whereabouts::NotAway
            {
                return Ok(true);
            }
        }
        let message =
            "memtest86+ does not react to ESC on the serial line; restart the machine by hand".to_owned();
        self.tell(job.run, EventLevel::Error, "serial_line", message).await?;
        Ok(true)
    }

    async fn whereabouts(&self, run: RunId) -> Result<Whereabouts, RunError> {
        self.store
            .read(move |connection| {
                let row = runs::get(connection, run)?;
                let away = reboots::away(connection, run)?.is_some() && row.state == RunState::Rebooting;
                Ok::<_, RunError>(match row.next_boot_target {
                    _ if !away => Whereabouts::NotAway,
                    Some(BootTarget::Memtest) => Whereabouts::Loading,
                    Some(
                        BootTarget::Linux
                        | BootTarget::LinuxCold
                        | BootTarget::MemtestKernel
                        | BootTarget::Disk,
                    )
                    | None => Whereabouts::InMemtest,
                })
            })
            .await
    }

    async fn note(
        &self,
        job: &Job,
        before: &MemtestObservation,
        seen: &MemtestObservation,
    ) -> Result<(), RunError> {
        let (run, seen) = (job.run, seen.clone());
        let wanted = job.wanted.passes;
        let mut lines = Vec::new();
        let now_ms = self.clock.now_ms();
        if before.program.is_none()
            && let Some(program) = &seen.program
        {
            lines.push(of_run(
                run,
                now_ms,
                EventLevel::Info,
                "memtest",
                format!("{program} is seen on the serial line"),
            ));
        }
        if before.addresses.len() != seen.addresses.len() || (before.errors == 0) != (seen.errors == 0) {
            let outcome = memtest::outcome(&seen, wanted);
            let found = outcome.reason().unwrap_or_default().to_owned();
            lines.push(of_run(run, now_ms, EventLevel::Error, "memtest_error", found));
        }
        if let Some(end) = seen.end {
            let passes = seen.passes;
            let message = format!("memtest86+ is told to end ({end}) after {passes} of {wanted} passes");
            lines.push(of_run(run, now_ms, EventLevel::Info, "memtest", message));
        }
        self.store
            .write(move |connection| {
                reboots::set_memtest(connection, run, &seen)?;
                lines.iter().try_for_each(|line| events::insert(connection, line).map(drop))?;
                Ok::<_, RunError>(())
            })
            .await
    }

    async fn tell_progress(&self, job: &Job, percent: f64) -> Result<(), RunError> {
        let live = self.live(job.run).await?;
        let mut live = live.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        live.set_progress(job.reboot.stage, None, Progress { percent, eta_ms: None });
        Ok(())
    }

    async fn tell(&self, run: RunId, level: EventLevel, kind: &str, message: String) -> Result<(), RunError> {
        let line = of_run(run, self.clock.now_ms(), level, kind, message);
        self.store
            .write(move |connection| events::insert(connection, &line).map(drop))
            .await
            .map_err(RunError::from)
    }

    /// memtest86+ went over the wire whole: from now on the machine boots the live image again.
    pub async fn memtest_served(&self, mac: vetting_protocol::ids::MacAddress) {
        let done = self
            .store
            .write(move |connection| {
                if let Some(host) = crate::store::hosts::by_mac(connection, mac)?
                    && let Some(run) = runs::active_of_host(connection, host.id)?
                    && run.state == RunState::Rebooting
                    && run.next_boot_target == Some(BootTarget::Memtest)
                {
                    runs::set_next_boot_target(connection, run.id, BootTarget::Linux)?;
                }
                Ok::<_, RunError>(())
            })
            .await;
        if let Err(error) = done {
            tracing::warn!(%mac, error = %crate::error_chain(&error), "that memtest86+ was loaded was not noted");
        }
    }

    /// A machine that should go into memtest86+ is kept out of it: nobody could bring it back.
    pub(super) async fn keep_out_of_memtest(&self, run: RunId, why: &'static str) -> Result<(), RunError> {
        let message = format!("the machine is not sent into memtest86+: {why}");
        let line = of_run(run, self.clock.now_ms(), EventLevel::Error, "serial_line", message);
        self.store
            .write(move |connection| {
                if let Some(mut seen) = reboots::away(connection, run)?.and_then(|reboot| reboot.memtest) {
                    seen.end = Some(MemtestEnd::NoLine);
                    seen.note = Some(why.to_owned());
                    reboots::set_memtest(connection, run, &seen)?;
                }
                runs::set_next_boot_target(connection, run, BootTarget::Linux)?;
                events::insert(connection, &line)?;
                Ok::<_, RunError>(())
            })
            .await
    }
}

/// Gives what comes over the line to `take` for so long.
async fn read_for(
    line: &mut Box<dyn OpenLine>,
    time: Duration,
    take: &mut (dyn FnMut(&[u8]) + Send),
) -> std::io::Result<()> {
    let mut bytes = [0_u8; 4096];
    let reading = async {
        loop {
            match line.read(&mut bytes).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => take(bytes.get(..count).unwrap_or_default()),
            }
        }
    };
    tokio::time::timeout(time, reading).await.unwrap_or(Ok(()))
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// What a stage that the machine did not come back to has for an outcome: what was seen of memtest86+ counts if it is a
/// fault of the memory.
pub(super) fn outcome_of_lost(connection: &Connection, run: RunId, why: &str) -> Result<Outcome, RunError> {
    let seen = reboots::away(connection, run)?.and_then(|reboot| reboot.memtest);
    Ok(match seen.map(|seen| memtest::outcome(&seen, u32::MAX)) {
        Some(Outcome::Fail { reason }) => Outcome::fail(format!("{reason}; then {why}")),
        Some(Outcome::Error { reason }) => Outcome::error(format!("{why}; {reason}")),
        Some(Outcome::Pass | Outcome::Skip { .. }) | None => Outcome::error(why),
    })
}
