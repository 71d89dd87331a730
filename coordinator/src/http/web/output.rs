//! What the tools of a stage wrote, word for word: the last calls of the stage's `tool_output`, readable and bounded. The
//! whole file can be saved.

use std::io::SeekFrom;
use std::path::Path;

use maud::{Markup, html};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use vetting_judge::report::format;
use vetting_protocol::ids::RunId;
use warp::reply::Response;

use super::layout::{Place, Tone, badge, page as whole_page};
use super::visitor::Visitor;
use crate::http::problem::ApiError;
use crate::http::runs::stored_artifact;

/// The kind of artifact.
pub(super) const KIND: &str = "tool_output";
/// Of the file's end is read so much. A call may take some MiB.
const MOST_READ_BYTES: u64 = 4 * 1024 * 1024;
/// Calls that are shown.
const MOST_CALLS: usize = 40;
/// Last letters of a stream that are shown.
const MOST_LETTERS: usize = 8_000;

/// A call, as the agent wrote it down.
#[derive(Debug, Deserialize)]
struct Call {
    ts_ms: i64,
    tool: String,
    args: Vec<String>,
    exit: Option<String>,
    error: Option<String>,
    elapsed_ms: u64,
    stdout: String,
    stderr: String,
}

/// The end of a file of calls.
#[derive(Debug, Default)]
struct End {
    /// The newest, oldest first.
    calls: Vec<Call>,
    /// There are earlier ones, or some that cannot be read here.
    is_part: bool,
}

/// The name of an artifact's file.
pub(super) fn name_of(path: &str) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}

/// Reads lines of JSON. `is_cut`: the text begins somewhere in a line.
fn calls(text: &[u8], is_cut: bool) -> End {
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').skip(usize::from(is_cut)).collect();
    let mut end = End { calls: Vec::new(), is_part: is_cut };
    for line in lines.into_iter().rev().filter(|line| !line.is_empty()) {
        if end.calls.len() == MOST_CALLS {
            end.is_part = true;
            break;
        }
        match serde_json::from_slice(line) {
            Ok(call) => end.calls.push(call),
            // the agent's own note of what it left out, or what no agent wrote
            Err(_) => end.is_part = true,
        }
    }
    end.calls.reverse();
    end
}

async fn read_end(path: &Path) -> std::io::Result<End> {
    let mut file = tokio::fs::File::open(path).await?;
    let size = file.metadata().await?.len();
    let from = size.saturating_sub(MOST_READ_BYTES);
    file.seek(SeekFrom::Start(from)).await?;
    let mut text = Vec::new();
    file.take(MOST_READ_BYTES).read_to_end(&mut text).await?;
    Ok(calls(&text, from > 0))
}

/// `GET /runs/{id}/output/{name}`.
pub(super) async fn page(visitor: &Visitor, run: RunId, name: &str) -> Result<Response, ApiError> {
    let row = stored_artifact(&visitor.app, run, KIND.to_owned(), Some(name.to_owned())).await?;
    let end = read_end(Path::new(&row.values.path)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ApiError::not_found(format!("{name} is not there")),
        _ => ApiError::internal(&error),
    })?;
    let stage = name.trim_end_matches(".jsonl");
    let body = html! {
        header.title {
            div {
                p.note { a href=(format!("/runs/{run}")) { "Run " (run) } " · what the tools wrote" }
                h1 { (stage) }
            }
            a.button href=(format!("/runs/{run}/files/{KIND}/{name}")) { "Save all of it (" (format::size(row.values.size_bytes)) ")" }
        }
        @if end.is_part { p.note { "These are the last calls; the file may have more." } }
        @if end.calls.is_empty() { p.empty { "No call can be shown here." } }
        @for one in &end.calls { (call(one)) }
    };
    Ok(whole_page(visitor, Place::Runs, stage, None, &body))
}

fn call(call: &Call) -> Markup {
    let words: Vec<&str> = std::iter::once(&call.tool).chain(&call.args).map(String::as_str).collect();
    let tone = if call.exit.as_deref() == Some("code 0") { Tone::Good } else { Tone::Warn };
    let took_ms = i64::try_from(call.elapsed_ms).unwrap_or(i64::MAX);
    html! {
        section.call {
            div.line {
                code { (words.join(" ")) }
                @if let Some(exit) = &call.exit { (badge(tone, exit)) }
                @if let Some(error) = &call.error { (badge(Tone::Bad, error)) }
                span.took { (format::time(call.ts_ms)) " · " (format::duration(took_ms)) }
            }
            (stream("Output", &call.stdout))
            (stream("Errors", &call.stderr))
        }
    }
}

fn stream(name: &str, text: &str) -> Markup {
    let text = text.trim_end();
    let more = text.chars().count().saturating_sub(MOST_LETTERS);
    let shown: String = text
        .chars()
        .skip(more)
        .map(|letter| if letter.is_control() && !matches!(letter, '\n' | '\t') { ' ' } else { letter })
        .collect();
    html! {
        @if !shown.is_empty() {
            h3 { (name) @if more > 0 { span.muted { ", the end of it" } } }
            // a line break that begins the text would be swallowed
            pre tabindex="0" { "\n" (shown) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: usize) -> String {
        format!(
            "{{\"ts_ms\":{number},\"tool\":\"fio\",\"args\":[],\"exit\":\"code 0\",\"elapsed_ms\":1,\"stdout\":\"\",\"stderr\":\"\"}}\n"
        )
    }

    #[test]
    fn the_last_calls_are_read_whatever_stands_before_them() {
        let whole = calls((written(1) + &written(2)).as_bytes(), false);
        assert_eq!((whole.calls.len(), whole.is_part), (2, false));
        let cut = calls(("ut\":\"\"}\n".to_owned() + &written(2)).as_bytes(), true);
        assert_eq!((cut.calls.len(), cut.calls[0].ts_ms, cut.is_part), (1, 2, true));
        let noted = calls((written(1) + "{\"left_out\":3}\n").as_bytes(), false);
        assert_eq!((noted.calls.len(), noted.is_part), (1, true));
        let many: String = (0..=MOST_CALLS).map(written).collect();
        let end = calls(many.as_bytes(), false);
        assert_eq!((end.calls.len(), end.calls[0].ts_ms, end.is_part), (MOST_CALLS, 1, true));
        let nonsense = calls(b"\xff\x00\n[[[[", false);
        assert!(nonsense.calls.is_empty() && nonsense.is_part);
        assert!(!calls(b"", false).is_part);
    }
}
