//! Event logs (DSP2046, LogService and LogEntry): of the system, or else of the managers that manage it.

use jiff::Timestamp;
use serde_json::Value;

use super::members;
use super::session::Session;
use crate::power::{ControlError, since};

/// Logs that are read, and pages of each.
const MOST_LOGS: usize = 6;
const MOST_PAGES: usize = 20;

/// The entries since `since_ms`, oldest first. Both times are ours; the manager's clock says by how much its own are off.
pub(super) async fn read(
    session: &Session,
    system: &Value,
    since_ms: i64,
    now_ms: i64,
) -> Result<Vec<String>, ControlError> {
    let mut managers = Vec::new();
    for manager in links(&system["Links"]["ManagedBy"]) {
        managers.push(session.get(&manager).await?.body);
    }
    let clock = managers.iter().find_map(|manager| moment(&manager["DateTime"]));
    // one that does not tell is believed to have ours
    let own_since_ms = clock.map_or(since_ms, |clock_ms| clock_ms - (now_ms - since_ms));
    let mut services = Vec::new();
    for owner in std::iter::once(system).chain(&managers) {
        let Some(path) = owner["LogServices"]["@odata.id"].as_str() else { continue };
        let all = session.get(path).await?.body;
        services.extend(members(&all).into_iter().map(str::to_owned));
    }
    services.dedup();
    if services.is_empty() {
        return Err(session.failed("it has no event log (LogServices)".to_owned()));
    }
    let mut entries = Vec::new();
    for service in services.iter().take(MOST_LOGS) {
        let service = session.get(service).await?.body;
        if let Some(path) = service["Entries"]["@odata.id"].as_str() {
            entries.extend(pages(session, path).await?);
        }
    }
    // logs give the newest first, or last, as they like; what has no time stays at the end
    entries.sort_by_key(|(at_ms, _)| at_ms.unwrap_or(i64::MAX));
    Ok(since(entries, own_since_ms))
}

async fn pages(session: &Session, first: &str) -> Result<Vec<(Option<i64>, String)>, ControlError> {
    let (mut entries, mut next) = (Vec::new(), Some(first.to_owned()));
    for _ in 0..MOST_PAGES {
        let Some(path) = next else { break };
        let page = session.get(&path).await?.body;
        let list = page["Members"].as_array().ok_or_else(|| {
            session.failed("its event log is not understood: it has no `Members`".to_owned())
        })?;
        for member in list {
            // some give the entries, some only where they are
            match (entry(member), member["@odata.id"].as_str()) {
                (Some(read), _) => entries.push(read),
                (None, Some(path)) => entries.extend(entry(&session.get(path).await?.body)),
                (None, None) => {}
            }
        }
        next = page["Members@odata.nextLink"].as_str().map(str::to_owned);
    }
    Ok(entries)
}

/// `Critical: The power supply 1 input is lost.`
fn entry(entry: &Value) -> Option<(Option<i64>, String)> {
    let message = entry["Message"].as_str().filter(|text| !text.trim().is_empty())?;
    let severity = entry["Severity"].as_str().filter(|severity| *severity != "OK");
    let words = severity.map_or_else(|| message.to_owned(), |severity| format!("{severity}: {message}"));
    Some((moment(&entry["Created"]), words))
}

fn moment(value: &Value) -> Option<i64> {
    value.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

fn links(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|link| link["@odata.id"].as_str()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_has_its_time_and_its_words() {
        let read = entry(&json!({"Created": "2026-11-26T06:03:39+01:00", "Severity": "Critical",
            "Message": "The power supply 1 input is lost."}));
        let at_ms = "2026-11-26T05:03:39Z".parse::<Timestamp>().unwrap().as_millisecond();
        assert_eq!(read, Some((Some(at_ms), "Critical: The power supply 1 input is lost.".to_owned())));
        let plain = entry(&json!({"Created": "once", "Severity": "OK", "Message": "Log cleared."}));
        assert_eq!(plain, Some((None, "Log cleared.".to_owned())));
        for nothing in [json!({"Message": " "}), json!({"@odata.id": "/x"}), Value::Null] {
            assert_eq!(entry(&nothing), None);
        }
    }
}
