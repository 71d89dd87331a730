//! The tasks behind notifications: one that reads the event log into the outbox, and one a receiver that empties it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::housekeeping::{NotificationState, NotificationView, NotificationsView, ReceiverView};

use super::delivery::{DeliveryError, Means};
use super::message::{Message, RunFacts};
use super::receiver::{Notifications, Receiver};
use crate::clock::{Clock, seconds_text};
use crate::error_chain;
use crate::power::secrets::PowerSecrets;
use crate::store::events::{self, EventRow, EventValues};
use crate::store::outbox::{self, NotificationRow, NotificationValues, Place};
use crate::store::{Connection, Store, StoreError, hosts, runs, settings};

/// Pause between two looks at the event log, and at what is due.
const PAUSE: Duration = Duration::from_secs(1);
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(10);
/// Events that are read at a time.
const EVENTS_A_LOOK: u32 = 500;
/// The last event that was looked at.
const CURSOR: &str = "notifications.last_event";
/// First pause after an attempt that failed, ms; it doubles each time.
const FIRST_BACKOFF_MS: i64 = 5_000;
/// Longest pause between two attempts, ms.
const LONGEST_BACKOFF_MS: i64 = 3_600_000;
/// How long a message is tried, ms.
const GIVE_UP_MS: i64 = 7 * 24 * 3_600_000;
/// Messages that may wait for one receiver.
const MOST_PENDING: u32 = 10_000;
/// Messages that are done and still known, and for how long, ms.
const MOST_DONE: u32 = 1_000;
const DONE_MS: i64 = 7 * 24 * 3_600_000;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Arc<Parts>);

struct Parts {
    store: Store,
    clock: Clock,
    means: Means,
    receivers: BTreeMap<String, Receiver>,
    more: BTreeMap<String, Notify>,
}

/// How long to wait after so many attempts, ms.
fn backoff_ms(attempts: u32) -> i64 {
    let doubled = FIRST_BACKOFF_MS.checked_shl(attempts.min(20));
    doubled.unwrap_or(LONGEST_BACKOFF_MS).min(LONGEST_BACKOFF_MS)
}

impl Notifier {
    /// For the receivers of the configuration.
    ///
    /// # Errors
    /// `notifications.ca` cannot be read.
    pub fn new(
        store: Store,
        clock: Clock,
        secrets: PowerSecrets,
        config: Notifications,
    ) -> Result<Self, DeliveryError> {
        let Notifications { ca, receivers } = config;
        let means = Means::new(secrets, clock.clone(), ca)?;
        let more = receivers.keys().map(|name| (name.clone(), Notify::new())).collect();
        Ok(Self(Arc::new(Parts { store, clock, means, receivers, more })))
    }

    /// Begins with what happens from now on, where nobody was ever told. To be called before anything happens.
    ///
    /// # Errors
    /// The database failed.
    pub async fn begin(&self) -> Result<(), StoreError> {
        let job = |connection: &Connection| {
            if settings::get(connection, CURSOR)?.is_none() {
                settings::set(connection, CURSOR, &events::last_id(connection)?.to_string())?;
            }
            Ok(())
        };
        self.0.store.write(job).await
    }

    /// Starts the tasks; they end when `stop` turns true. A message that is under way then is sent again after the next
    /// start.
    pub fn serve(&self, stop: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let reader = (self.clone(), stop.clone());
        let mut tasks = vec![tokio::spawn(async move { reader.0.read_events(reader.1).await })];
        for name in self.0.receivers.keys() {
            let (notifier, name, stop) = (self.clone(), name.clone(), stop.clone());
            tasks.push(tokio::spawn(async move { notifier.empty(&name, stop).await }));
        }
        tasks
    }

    async fn read_events(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let pause = match self.read_once().await {
                // there may be more
                Ok(read) if read == EVENTS_A_LOOK as usize => Duration::ZERO,
                Ok(_) => PAUSE,
                Err(error) => {
                    tracing::error!(error = %error_chain(&error), "notifications cannot be made");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Reads what happened since the last time; says how many events.
    async fn read_once(&self) -> Result<usize, StoreError> {
        let seen = self.0.store.read(|connection| {
            let seen = settings::get(connection, CURSOR)?.and_then(|text| text.parse::<i64>().ok());
            Ok::<_, StoreError>((seen, events::last_id(connection)?))
        });
        let (seen, last_id) = seen.await?;
        // what happened before anybody was to be told is not told; nor does anybody want a tale without listeners
        let Some(seen) = seen.filter(|_| !self.0.receivers.is_empty()) else {
            if seen != Some(last_id) {
                let text = last_id.to_string();
                self.0.store.write(move |connection| settings::set(connection, CURSOR, &text)).await?;
            }
            return Ok(0);
        };
        if seen >= last_id {
            return Ok(0);
        }
        let (parts, now_ms) = (Arc::clone(&self.0), self.0.clock.now_ms());
        let job = move |connection: &Connection| parts.take_in(connection, seen, now_ms);
        let (read, told) = self.0.store.write(job).await?;
        for name in told {
            if let Some(more) = self.0.more.get(&name) {
                more.notify_one();
            }
        }
        Ok(read)
    }

    /// Sends what a receiver is to be told, until `stop` turns true.
    async fn empty(&self, name: &str, mut stop: watch::Receiver<bool>) {
        let Some(more) = self.0.more.get(name) else { return };
        loop {
            let mut ended = stop.clone();
            let sent = tokio::select! {
                sent = self.send_next(name) => sent,
                _ = ended.wait_for(|stop| *stop) => return,
            };
            let pause = match sent {
                Ok(true) => continue,
                Ok(false) => PAUSE,
                Err(error) => {
                    tracing::error!(receiver = name, error = %error_chain(&error), "the outbox cannot be used");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = more.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Tries the oldest message that is due; false where there is none.
    async fn send_next(&self, name: &str) -> Result<bool, StoreError> {
        let Some(receiver) = self.0.receivers.get(name) else { return Ok(false) };
        let (owner, now_ms) = (name.to_owned(), self.0.clock.now_ms());
        let next = self
            .0
            .store
            .read(move |connection| outbox::next(connection, &owner, now_ms, now_ms + LONGEST_BACKOFF_MS))
            .await?;
        let Some(row) = next else { return Ok(false) };
        let sent = match serde_json::from_value::<Message>(row.values.message.clone()) {
            Ok(message) => self.0.means.deliver(&receiver.by, row.id, &message).await,
            Err(error) => Err(error.into()),
        };
        let now_ms = self.0.clock.now_ms();
        let job = move |connection: &Connection| note_attempt(connection, &row, sent, now_ms);
        self.0.store.write(job).await?;
        Ok(true)
    }

    /// Sends a test to a receiver now; `None` where there is no such receiver.
    pub async fn test(
        &self,
        name: &str,
        line: EventValues,
    ) -> Result<Option<Result<(), DeliveryError>>, StoreError> {
        let Some(receiver) = self.0.receivers.get(name) else { return Ok(None) };
        self.0.store.write(move |connection| events::insert(connection, &line)).await?;
        let time = seconds_text(self.0.clock.now_ms()).unwrap_or_default();
        let message = Message {
            event_id: None,
            event: "test".to_owned(),
            level: EventLevel::Info,
            time,
            message: format!("a test of the receiver {name}"),
            host: None,
            run: None,
            title: "vetting: test".to_owned(),
            text: format!("This is a test of the receiver {name}. It works."),
        };
        Ok(Some(self.0.means.deliver(&receiver.by, 0, &message).await))
    }

    /// The names of the receivers.
    pub fn names(&self) -> Vec<String> {
        self.0.receivers.keys().cloned().collect()
    }

    /// Has failed messages tried again, and pending ones at once.
    pub async fn retry(&self, receiver: Option<String>, line: EventValues) -> Result<u64, StoreError> {
        let now_ms = self.0.clock.now_ms();
        let job = move |connection: &Connection| {
            let retried = outbox::retry(connection, receiver.as_deref(), now_ms)?;
            events::insert(connection, &line)?;
            Ok::<_, StoreError>(retried)
        };
        let retried = self.0.store.write(job).await?;
        for more in self.0.more.values() {
            more.notify_one();
        }
        Ok(retried)
    }

    /// Receivers, and so many messages from there.
    pub async fn view(&self, from: Place, limit: u32) -> Result<NotificationsView, StoreError> {
        let read = self.0.store.read(move |connection| {
            Ok::<_, StoreError>((outbox::counts(connection)?, outbox::latest(connection, from, limit)?))
        });
        let (counts, rows) = read.await?;
        let mut receivers: BTreeMap<String, ReceiverView> = BTreeMap::new();
        for (name, receiver) in &self.0.receivers {
            let by = receiver.by.as_str().to_owned();
            receivers.insert(name.clone(), ReceiverView { name: name.clone(), by, pending: 0, failed: 0 });
        }
        for (name, pending, failed) in counts {
            let unknown =
                || ReceiverView { name: name.clone(), by: "none".to_owned(), pending: 0, failed: 0 };
            let view = receivers.entry(name.clone()).or_insert_with(unknown);
            (view.pending, view.failed) = (pending, failed);
        }
        let notifications = rows.into_iter().map(view_of).collect::<Result<_, _>>()?;
        Ok(NotificationsView { receivers: receivers.into_values().collect(), notifications })
    }
}

impl Parts {
    /// Puts into the outbox what receivers want of the events after `seen`. Says how many were read, and who is told.
    fn take_in(
        &self,
        connection: &Connection,
        seen: i64,
        now_ms: i64,
    ) -> Result<(usize, Vec<String>), StoreError> {
        let rows = events::after(connection, seen, EVENTS_A_LOOK)?;
        let mut told = Vec::new();
        for row in &rows {
            let message = message(connection, row)?;
            for (name, receiver) in &self.receivers {
                if !receiver.on.iter().any(|trigger| trigger.wants(&message)) {
                    continue;
                }
                let texts = (receiver.title.fill(&message), receiver.text.fill(&message));
                let message = message.clone().with_texts(&texts.0, &texts.1);
                let message = serde_json::to_value(message).unwrap_or_default();
                let values = NotificationValues { receiver: name.clone(), event_id: Some(row.id), message };
                outbox::insert(connection, &values, now_ms)?;
                told.push(name.clone());
            }
        }
        told.sort();
        told.dedup();
        for name in &told {
            let lost = outbox::push_out(connection, name, MOST_PENDING, now_ms)?;
            if lost > 0 {
                let message = format!(
                    "{lost} messages for {name} were given up: {MOST_PENDING} newer ones wait, and it takes none"
                );
                let line = events::of_box(EventLevel::Error, "notification_failed", message, now_ms);
                events::insert(connection, &line)?;
            }
        }
        outbox::forget(connection, now_ms.saturating_sub(DONE_MS), MOST_DONE)?;
        let last = rows.last().map_or(seen, |row| row.id);
        settings::set(connection, CURSOR, &last.to_string())?;
        Ok((rows.len(), told))
    }
}

/// What is told of an event, but for the texts.
fn message(connection: &Connection, row: &EventRow) -> Result<Message, StoreError> {
    let values = &row.values;
    let run = values.run_id.map(|run| runs::get(connection, run)).transpose()?;
    let host = match (&run, values.host_id) {
        (Some(run), _) => Some(run.host_name.clone()),
        (None, Some(host)) => Some(hosts::get(connection, host)?.name),
        (None, None) => None,
    };
    // the run may have gone on since
    let then = |key: &str| values.data.as_ref().and_then(|data| data.get(key)).and_then(|word| word.as_str());
    let facts = match run {
        None => None,
        Some(run) => {
            let verdict = runs::verdict(connection, run.id)?;
            Some(RunFacts {
                id: run.id,
                profile: run.profile,
                state: then("to").and_then(|word| word.parse().ok()).unwrap_or(run.state),
                result: then("result").and_then(|word| word.parse().ok()).or(run.result),
                reasons: verdict.map(|verdict| verdict.reasons).unwrap_or_default(),
            })
        }
    };
    Ok(Message {
        event_id: Some(row.id),
        event: values.kind.clone(),
        level: values.level,
        time: seconds_text(values.ts_ms)?,
        message: values.message.clone(),
        host,
        run: facts,
        title: String::new(),
        text: String::new(),
    })
}

fn note_attempt(
    connection: &Connection,
    row: &NotificationRow,
    sent: Result<(), DeliveryError>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let name = &row.values.receiver;
    let Err(error) = sent else {
        return outbox::attempted(connection, row.id, NotificationState::Delivered, now_ms, None, now_ms);
    };
    let why = error_chain(&error);
    tracing::warn!(receiver = %name, notification = row.id, error = %why, "a receiver was not told");
    if now_ms.saturating_sub(row.created_at_ms) < GIVE_UP_MS {
        let next_ms = now_ms.saturating_add(backoff_ms(row.attempts));
        return outbox::attempted(
            connection,
            row.id,
            NotificationState::Pending,
            next_ms,
            Some(&why),
            now_ms,
        );
    }
    outbox::attempted(connection, row.id, NotificationState::Failed, now_ms, Some(&why), now_ms)?;
    let message = format!("message {} for {name} was given up after a week: {why}", row.id);
    let line = events::of_box(EventLevel::Error, "notification_failed", message, now_ms);
    events::insert(connection, &line).map(drop)
}

fn view_of(row: NotificationRow) -> Result<NotificationView, StoreError> {
    let title = row.values.message.get("title").and_then(|title| title.as_str()).unwrap_or_default();
    let waits = row.state == NotificationState::Pending;
    Ok(NotificationView {
        id: row.id,
        receiver: row.values.receiver.clone(),
        state: row.state,
        title: title.to_owned(),
        created_at: seconds_text(row.created_at_ms)?,
        attempts: row.attempts,
        next_attempt_at: waits.then(|| seconds_text(row.next_attempt_ms)).transpose()?,
        last_error: row.last_error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::timestamp_ms;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn store_with(messages: i64) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("vetting.db")).unwrap();
        let job = move |connection: &Connection| {
            for event in 1..=messages {
                let message = serde_json::to_value(Message::example()).unwrap_or_default();
                let values = NotificationValues { receiver: "x".to_owned(), event_id: Some(event), message };
                outbox::insert(connection, &values, NOW_MS)?;
            }
            Ok::<_, StoreError>(())
        };
        store.write_blocking(job).unwrap();
        (folder, store)
    }

    fn next(store: &Store, now_ms: i64) -> Option<NotificationRow> {
        let job =
            |connection: &Connection| outbox::next(connection, "x", now_ms, now_ms + LONGEST_BACKOFF_MS);
        store.read_blocking(job).unwrap()
    }

    fn failed_attempt(store: &Store, row: NotificationRow, now_ms: i64) {
        let job =
            move |connection: &Connection| note_attempt(connection, &row, Err(DeliveryError::Hangs), now_ms);
        store.write_blocking(job).unwrap();
    }

    #[test]
    fn a_message_waits_for_its_next_attempt_also_when_the_clock_is_set_back() {
        let (_folder, store) = store_with(1);
        let row = next(&store, NOW_MS).unwrap();
        failed_attempt(&store, row, NOW_MS);
        assert_eq!(next(&store, NOW_MS + 4_999), None);
        assert_eq!(next(&store, NOW_MS + 5_000).unwrap().attempts, 1);
        // a clock that is corrected by a year does not keep it waiting for a year
        assert!(next(&store, timestamp_ms("2022-11-14 00:00:00").unwrap()).is_some());
    }

    #[test]
    fn after_a_week_it_is_given_up_with_an_event_and_can_be_tried_again() {
        let (_folder, store) = store_with(1);
        let (week_ms, row) = (NOW_MS + GIVE_UP_MS, next(&store, NOW_MS).unwrap());
        failed_attempt(&store, row, week_ms);
        assert_eq!(next(&store, week_ms + GIVE_UP_MS), None);
        let events = store.read_blocking(|connection| events::after(connection, 0, 10)).unwrap();
        assert_eq!(events.last().unwrap().values.kind, "notification_failed");
        let retried = store.write_blocking(move |connection| outbox::retry(connection, None, week_ms));
        assert_eq!(retried.unwrap(), 1);
        failed_attempt(&store, next(&store, week_ms).unwrap(), week_ms);
        assert_eq!(next(&store, week_ms + 3_600_000).unwrap().state, NotificationState::Pending);
    }

    #[test]
    fn the_outbox_is_bounded_and_the_same_event_is_told_once() {
        let (_folder, store) = store_with(5);
        let job = |connection: &Connection| {
            let again = NotificationValues {
                receiver: "x".to_owned(),
                event_id: Some(5),
                message: serde_json::Value::Null,
            };
            outbox::insert(connection, &again, NOW_MS)?;
            outbox::push_out(connection, "x", 3, NOW_MS)
        };
        assert_eq!(store.write_blocking(job).unwrap(), 2);
        let counts = || store.read_blocking(outbox::counts).unwrap();
        assert_eq!(counts(), [("x".to_owned(), 3, 2)]);
        assert_eq!(next(&store, NOW_MS).unwrap().values.event_id, Some(3));
        let forget = |before_ms, most| {
            store.write_blocking(move |connection| outbox::forget(connection, before_ms, most)).unwrap();
        };
        forget(NOW_MS, 1);
        assert_eq!(counts(), [("x".to_owned(), 3, 1)]);
        forget(NOW_MS + 1, 1);
        assert_eq!(counts(), [("x".to_owned(), 3, 0)]);
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        assert_eq!([0, 1, 2].map(backoff_ms), [5_000, 10_000, 20_000]);
        for attempts in [10, 63, 64, u32::MAX] {
            assert_eq!(backoff_ms(attempts), LONGEST_BACKOFF_MS);
        }
    }
}
