//! The janitor: removes files of runs by age, on disk only; every row stays, and `artifact_removals` tells what is gone.
//!
//! Refuses: a file of a run that is not over, or held; what is not a plain file in its run's own folder; links. Files
//! that no row knows are only told, unless asked for. Also looks at the room that is left.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use tokio::sync::watch;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::housekeeping::{OrphanFile, RemovedFile, SweepOrder, SweepView};
use vetting_protocol::ids::RunId;

use super::driver::{Driver, of_run};
use super::error::RunError;
use crate::byte_size::ByteSize;
use crate::config::FreeSpace;
use crate::disk_space::{self, Room};
use crate::error_chain;
use crate::store::events::{self, EventValues};
use crate::store::removals::{self, AgedFile};
use crate::store::{Connection, StoreError, artifacts, settings};

const DAY_MS: i64 = 24 * 3_600_000;
/// Pause between two looks at the room and at whether a day has passed.
const PAUSE: Duration = Duration::from_mins(10);
/// A file that no row knows may be on its way to one for so long, ms.
const ORPHAN_AGE_MS: i64 = DAY_MS;
/// Where the last sweep is noted.
const LAST_SWEEP: &str = "janitor.last_sweep_ms";
/// Kinds of artifacts that are logs: what programs wrote, beside what was made of it.
const LOG_KINDS: [&str; 1] = ["tool_output"];
/// Files that have no row, by what they are for: of a held machine.
const WITHOUT_ROW: &str = "hold_known_hosts";
/// Paths that an event names.
const MOST_NAMED: usize = 100;

/// What the janitor is told by the config.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// `artifacts.retention_days`; absent: for ever.
    pub artifacts_days: Option<u32>,
    /// `logs.retention_days`; absent: for ever.
    pub logs_days: Option<u32>,
    /// What room there should be.
    pub free_space: FreeSpace,
    /// Where that is looked at.
    pub folders: Vec<PathBuf>,
}

impl Retention {
    /// Before when a run must have ended for its files of this kind to go; absent: never.
    fn before_ms(&self, kind: &str, now_ms: i64) -> Option<i64> {
        let days = if LOG_KINDS.contains(&kind) { self.logs_days } else { self.artifacts_days };
        days.map(|days| now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS)))
    }

    /// The latest of these times over all kinds.
    fn latest_ms(&self, now_ms: i64) -> Option<i64> {
        let all = [self.before_ms(LOG_KINDS[0], now_ms), self.before_ms("", now_ms)];
        all.into_iter().flatten().max()
    }
}

/// A plain file in its folder.
struct Found {
    size_bytes: u64,
    modified_ms: i64,
}

impl Driver {
    /// Removes what is old enough, or only tells of it. `line` says who ordered it, where somebody did, and is written
    /// before the first file goes.
    ///
    /// # Errors
    /// The database failed. A file that cannot be removed is told in the answer.
    pub async fn sweep(&self, order: SweepOrder, line: Option<EventValues>) -> Result<SweepView, RunError> {
        let retention = &self.settings.retention;
        let now_ms = self.clock.now_ms();
        let mut view = SweepView {
            dry_run: order.dry_run,
            artifacts_days: retention.artifacts_days,
            logs_days: retention.logs_days,
            removed: Vec::new(),
            orphans: Vec::new(),
            problems: Vec::new(),
        };
        // no report is being written anew after a waiver meanwhile
        let _waiving = self.waiving.lock().await;
        if let Some(line) = line {
            let noted: Result<_, StoreError> =
                self.store.write(move |connection| events::insert(connection, &line)).await;
            noted?;
        }
        if let Some(before_ms) = retention.latest_ms(now_ms) {
            let runs: Result<_, StoreError> =
                self.store.read(move |connection| removals::runs_before(connection, before_ms)).await;
            for run in runs? {
                let driver = self.clone();
                let job =
                    move |connection: &Connection| driver.sweep_run(connection, run, order.dry_run, now_ms);
                // in the writer's turn: nobody takes the run up again between the look and the removal
                let (removed, problems) = self.store.write(job).await?;
                view.removed.extend(removed);
                view.problems.extend(problems);
            }
        }
        self.sweep_orphans(order, now_ms, &mut view).await?;
        Ok(view)
    }

    fn sweep_run(
        &self,
        connection: &Connection,
        run: RunId,
        dry_run: bool,
        now_ms: i64,
    ) -> Result<(Vec<RemovedFile>, Vec<String>), StoreError> {
        let (mut removed, mut problems) = (Vec::new(), Vec::new());
        let folder = self.run_dir(run);
        for AgedFile { completed_at_ms, artifact, .. } in removals::files(connection, run)? {
            let values = artifact.values;
            let Some(before_ms) = self.settings.retention.before_ms(&values.kind, now_ms) else { continue };
            let path = PathBuf::from(&values.path);
            let found = match look(&self.settings.artifacts_dir, &folder, &path) {
                Ok(found) => found,
                Err(problem) => {
                    problems.push(format!("{}: {problem}", values.path));
                    continue;
                }
            };
            // a report that was written after a waiver, or a run that was imported, is as old as its file
            let newest_ms =
                found.as_ref().map_or(completed_at_ms, |found| found.modified_ms.max(completed_at_ms));
            if newest_ms >= before_ms {
                continue;
            }
            if !dry_run {
                if let Err(problem) = remove(&path, &folder) {
                    problems.push(format!("{}: {problem}", values.path));
                    continue;
                }
                removals::note(connection, artifact.id, now_ms)?;
            }
            // one that was gone already is noted, not counted
            if let Some(Found { size_bytes, .. }) = found {
                removed.push(RemovedFile { run, kind: values.kind, path: values.path, size_bytes });
            }
        }
        if !dry_run && !removed.is_empty() {
            note_removed(connection, run, &removed, now_ms)?;
        }
        Ok((removed, problems))
    }

    async fn sweep_orphans(
        &self,
        order: SweepOrder,
        now_ms: i64,
        view: &mut SweepView,
    ) -> Result<(), RunError> {
        let folder = self.settings.artifacts_dir.clone();
        let listed = tokio::task::spawn_blocking(move || list(&folder)).await?;
        view.problems.extend(listed.problems);
        let mut gone = Vec::new();
        for (run, files) in listed.by_run {
            let old: Vec<_> =
                files.into_iter().filter(|(_, found)| found.modified_ms < now_ms - ORPHAN_AGE_MS).collect();
            if old.is_empty() {
                continue;
            }
            let remove_them = order.orphans && !order.dry_run;
            let job = move |connection: &Connection| orphans_of(connection, run, old, remove_them);
            // where nothing is removed, nothing has to wait for its turn
            let (orphans, problems) =
                if remove_them { self.store.write(job).await? } else { self.store.read(job).await? };
            view.problems.extend(problems);
            let wanted = |orphan: OrphanFile| OrphanFile { removed: order.orphans, ..orphan };
            if remove_them {
                gone.extend(orphans.iter().map(|orphan| orphan.path.clone()));
            }
            view.orphans.extend(orphans.into_iter().map(wanted));
        }
        if !gone.is_empty() {
            let message = format!("{} files that no row knew were removed", gone.len());
            gone.truncate(MOST_NAMED);
            let line = events::of_box(EventLevel::Warning, "orphans_removed", message, now_ms);
            let line = EventValues { data: Some(json!({ "files": gone })), ..line };
            let noted: Result<_, StoreError> =
                self.store.write(move |connection| events::insert(connection, &line)).await;
            noted?;
        }
        Ok(())
    }

    /// Sweeps once a day and looks at the room now and then, until `stop` turns true.
    pub async fn keep_house(&self, mut stop: watch::Receiver<bool>) {
        let mut was_low = false;
        loop {
            if let Err(error) = self.sweep_if_due().await {
                tracing::error!(error = %error_chain(&error), "the janitor could not sweep");
            }
            match self.look_at_room(was_low).await {
                Ok(low) => was_low = low,
                Err(error) => tracing::error!(error = %error_chain(&error), "cannot see what room there is"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Sweeps if the last time was a day ago, also by a clock that was set back since.
    pub(crate) async fn sweep_if_due(&self) -> Result<Option<SweepView>, RunError> {
        let now_ms = self.clock.now_ms();
        if self.settings.retention.latest_ms(now_ms).is_none() {
            return Ok(None);
        }
        let last: Result<_, StoreError> =
            self.store.read(|connection| settings::get(connection, LAST_SWEEP)).await;
        let last_ms = last?.and_then(|text| text.parse::<i64>().ok());
        if last_ms.is_some_and(|last_ms| now_ms >= last_ms && now_ms < last_ms.saturating_add(DAY_MS)) {
            return Ok(None);
        }
        let view = self.sweep(SweepOrder { dry_run: false, orphans: false }, None).await?;
        for problem in &view.problems {
            tracing::warn!(%problem, "the janitor left a file alone");
        }
        if !view.orphans.is_empty() {
            tracing::warn!(
                files = view.orphans.len(),
                "files that no row knows; `janitor --dry-run` names them"
            );
        }
        let text = now_ms.to_string();
        let noted: Result<_, StoreError> =
            self.store.write(move |connection| settings::set(connection, LAST_SWEEP, &text)).await;
        noted?;
        Ok(Some(view))
    }

    /// Tells once when room gets scarce, and once when it is there again. Says whether it is scarce.
    pub(crate) async fn look_at_room(&self, was_low: bool) -> Result<bool, RunError> {
        let retention = self.settings.retention.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let folders: Vec<&Path> = retention.folders.iter().map(PathBuf::as_path).collect();
            let FreeSpace { warning, refuse } = retention.free_space;
            disk_space::look(&folders, warning, refuse)
        });
        let path = self.settings.artifacts_dir.clone();
        let room = looked.await?.map_err(|source| RunError::Io { path, source })?;
        let (level, kind, message) = match room {
            Room::Enough if was_low => {
                (EventLevel::Info, "disk_room", "there is enough room on the disk again".to_owned())
            }
            Room::Enough => return Ok(false),
            Room::Low { .. } | Room::TooLittle { .. } if was_low => return Ok(true),
            Room::Low { folder, free } | Room::TooLittle { folder, free } => {
                let message = format!(
                    "only {free} are free at {}: make room, or let the janitor remove old files \
                     (`artifacts.retention_days`)",
                    folder.display()
                );
                (EventLevel::Warning, "disk_low", message)
            }
        };
        tracing::warn!("{message}");
        let low = kind == "disk_low";
        let line = events::of_box(level, kind, message, self.clock.now_ms());
        let noted: Result<_, StoreError> =
            self.store.write(move |connection| events::insert(connection, &line)).await;
        noted?;
        Ok(low)
    }
}

fn note_removed(
    connection: &Connection,
    run: RunId,
    removed: &[RemovedFile],
    now_ms: i64,
) -> Result<(), StoreError> {
    let bytes = ByteSize(removed.iter().map(|file| file.size_bytes).sum());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for file in removed {
        *kinds.entry(&file.kind).or_default() += 1;
    }
    let words: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let message =
        format!("the janitor removed {} files, {bytes}, by their age: {}", removed.len(), words.join(", "));
    let mut line = of_run(run, now_ms, EventLevel::Info, "files_removed", message);
    let paths: Vec<&str> = removed.iter().take(MOST_NAMED).map(|file| file.path.as_str()).collect();
    line.data = Some(json!({ "files": paths }));
    events::insert(connection, &line).map(drop)
}

/// A file as it is, if it is a plain one below its run's own folder; `None` where it is gone.
fn look(artifacts: &Path, folder: &Path, path: &Path) -> Result<Option<Found>, String> {
    let below = path.strip_prefix(folder).map_err(|_| "it is not in the folder of its run".to_owned())?;
    if below.as_os_str().is_empty() || below.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err("it is not in the folder of its run".to_owned());
    }
    let parent = path.parent().unwrap_or(folder);
    let real = match parent.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let root = artifacts.canonicalize().map_err(|error| error.to_string())?;
    if real != root.join(parent.strip_prefix(artifacts).unwrap_or(parent)) {
        return Err("a link leads out of the folder of its run".to_owned());
    }
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(of_metadata(&found))),
        Ok(_) => Err("it is not a plain file".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn of_metadata(found: &std::fs::Metadata) -> Found {
    let modified = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified_ms = modified.map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    Found { size_bytes: found.len(), modified_ms }
}

/// Removes a file, and the folder of its kind if it was the last in there.
fn remove(path: &Path, folder: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
        Ok(()) | Err(_) => {}
    }
    if let Some(parent) = path.parent().filter(|parent| parent.starts_with(folder)) {
        // refused while something is in there
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

#[derive(Default)]
struct Listed {
    by_run: BTreeMap<RunId, Vec<(PathBuf, Found)>>,
    problems: Vec<String>,
}

/// Every file in the folders of runs.
fn list(artifacts: &Path) -> Listed {
    let mut listed = Listed::default();
    for path in entries(artifacts, &mut listed.problems) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let run = name.strip_prefix("run-").and_then(|id| id.parse().ok()).map(RunId);
        let Some(run) = run.filter(|run| name == format!("run-{run}")) else {
            listed.problems.push(format!("{}: it is not the folder of a run", path.display()));
            continue;
        };
        let mut files = Vec::new();
        walk(&path, &mut files, &mut listed.problems);
        listed.by_run.insert(run, files);
    }
    listed
}

fn entries(folder: &Path, problems: &mut Vec<String>) -> Vec<PathBuf> {
    let read: Result<Vec<_>, _> =
        std::fs::read_dir(folder).and_then(|all| all.map(|entry| entry.map(|entry| entry.path())).collect());
    let mut paths = read.unwrap_or_else(|error| {
        problems.push(format!("{}: {error}", folder.display()));
        Vec::new()
    });
    paths.sort();
    paths
}

fn walk(path: &Path, files: &mut Vec<(PathBuf, Found)>, problems: &mut Vec<String>) {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            for below in entries(path, problems) {
                walk(&below, files, problems);
            }
        }
        Ok(found) if found.is_file() => files.push((path.to_owned(), of_metadata(&found))),
        Ok(_) => problems.push(format!("{}: it is not a plain file", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => problems.push(format!("{}: {error}", path.display())),
    }
}

/// Those of `files` that no row of the run knows; removed if asked. Of a run that is not over, none.
fn orphans_of(
    connection: &Connection,
    run: RunId,
    files: Vec<(PathBuf, Found)>,
    remove_them: bool,
) -> Result<(Vec<OrphanFile>, Vec<String>), StoreError> {
    let (mut orphans, mut problems) = (Vec::new(), Vec::new());
    if removals::is_over(connection, run)? == Some(false) {
        return Ok((orphans, problems));
    }
    let mut known = Vec::new();
    for row in artifacts::list(connection, run)? {
        // of one that was removed a file can only be left where a crash came between
        if removals::removed_at(connection, row.id)?.is_none() {
            known.push(PathBuf::from(row.values.path));
        }
    }
    for (path, found) in files {
        if known.contains(&path) || path.file_name().is_some_and(|name| name == WITHOUT_ROW) {
            continue;
        }
        if remove_them {
            let folder = path.ancestors().nth(1).unwrap_or(&path).to_owned();
            if let Err(problem) = remove(&path, &folder) {
                problems.push(format!("{}: {problem}", path.display()));
                continue;
            }
        }
        let path = path.to_string_lossy().into_owned();
        orphans.push(OrphanFile { path, size_bytes: found.size_bytes, removed: remove_them });
    }
    Ok((orphans, problems))
}
