//! The operator API's door for results of machines that worked without a coordinator: the files of one results folder,
//! packed by tar. They are believed as little as those of a stick, and taken whole or not at all.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use bytes::Buf;
use futures_util::Stream;
use http::HeaderMap;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use warp::reply::Response;

use super::operator::ok;
use super::problem::{ApiError, ProblemKind};
use super::{App, body};
use crate::error_chain;
use crate::results_folder::{self, ResultsFolder};
use crate::run::error::RunError;
use crate::run::import::import;

/// Largest body, bytes: about two million records. While they are stored nothing else is written, so larger ones are for
/// the command on the coordinator's box, which is a process of its own.
const MAX_RESULTS_BYTES: u64 = 256 * 1024 * 1024;

/// Results are in memory whole while they are judged: those of one machine at a time.
static BEING_JUDGED: Semaphore = Semaphore::const_new(1);

/// Query of `POST run-imports`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    /// Name of the machine, where it is not to be found by its cards.
    host: Option<String>,
    /// Also take a run that broke off.
    #[serde(default)]
    incomplete: bool,
    /// Take a run although its records give another verdict than its report has.
    #[serde(default)]
    other_verdict: bool,
}

/// A body on its way in: a file without a name, gone with its last user.
struct Spooled(tokio::fs::File);

impl body::Sink for Spooled {
    async fn take(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        self.0.write_all(chunk).await.map_err(storage)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn storage(source: std::io::Error) -> ApiError {
    ApiError::new(ProblemKind::StorageUnavailable, format!("the upload cannot be kept: {source}; try again"))
}

fn invalid(what: impl Into<String>) -> ApiError {
    ApiError::new(ProblemKind::Invalid, what)
}

/// `POST run-imports`.
pub async fn import_run<S, B>(
    app: App,
    query: ImportQuery,
    headers: &HeaderMap,
    body: S,
) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    body::check_announced_length(headers, MAX_RESULTS_BYTES)?;
    let artifacts = app.driver.settings.artifacts_dir.clone();
    let spool = tempfile::tempfile_in(&artifacts).map_err(storage)?;
    let mut spooled = Spooled(tokio::fs::File::from_std(spool));
    body::for_each_chunk(body, MAX_RESULTS_BYTES, &mut spooled).await?;
    spooled.0.flush().await.map_err(storage)?;
    let file = spooled.0.into_std().await;

    let _turn = BEING_JUDGED.acquire().await.map_err(|error| ApiError::internal(&error))?;
    let ImportQuery { host, incomplete, other_verdict } = query;
    let reading = tokio::task::spawn_blocking(move || read(file, incomplete));
    let folder = reading.await.map_err(|error| ApiError::from(RunError::from(error)))??;
    let differences = folder.differences.clone();
    if !differences.is_empty() && !other_verdict {
        return Err(invalid(format!(
            "the report does not follow from its records: {}. Somebody changed it, or this version judges otherwise; \
             `other_verdict=true` (--other-verdict) imports it with the verdict made here",
            differences.join("; ")
        )));
    }
    let now_ms = app.driver.clock.now_ms();
    let order = app.order(None, "imported the run");
    let imported = import(&app.driver.store, &artifacts, folder, host, Some(order), now_ms).await?;
    Ok(ok(&imported.into_view(differences)))
}

/// The checked results in a packed folder.
fn read(file: std::fs::File, incomplete: bool) -> Result<ResultsFolder, ApiError> {
    let mut files = unpack(file)?;
    ResultsFolder::of_files(Path::new(""), &mut |name| Ok(files.remove(name)), incomplete)
        .map_err(|error| invalid(error_chain(&error)))
}

/// The files of a tar, by name. Nothing is written anywhere, so names lead nowhere; those that no run leaves are refused.
fn unpack(mut file: std::fs::File) -> Result<BTreeMap<String, Vec<u8>>, ApiError> {
    let damaged =
        |error: std::io::Error| invalid(format!("the body is no tar archive, or cut short: {error}"));
    std::io::Seek::rewind(&mut file).map_err(storage)?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // as `tar -C FOLDER -c .` has it
        let name = path.strip_prefix("./").unwrap_or(&path).to_owned();
        match entry.header().entry_type() {
            tar::EntryType::Directory if name.is_empty() => continue,
            tar::EntryType::Regular if results_folder::is_part(&name) => {}
            _ => {
                return Err(invalid(format!(
                    "no run leaves a file `{name}`; pack the files of one results folder"
                )));
            }
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != entry.size() {
            return Err(invalid(format!("the archive is cut short in `{name}`")));
        }
        if files.insert(name.clone(), bytes).is_some() {
            return Err(invalid(format!("`{name}` is there twice")));
        }
    }
    Ok(files)
}
