//! Asking to be taken in: again and again until there is a run, with the code for the operator on the console.

use std::time::{Duration, Instant};

use vetting_protocol::enrolment::{EnrolAnswer, EnrolRequest, Identity};
use vetting_protocol::ids::RunId;
use vetting_protocol::secret::Secret;

use super::Timing;
use super::backoff::Backoff;
use super::client::{Client, RequestError};
use crate::clock;
use crate::console::{Console, spoken};

/// Longest pause that the coordinator may ask for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The code is shown again after so long, since other lines push it off the screen.
const SHOWN_AGAIN: Duration = Duration::from_mins(5);
/// Width of the code's frame, columns.
const FRAME_WIDTH: usize = 72;

/// A machine that was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The coordinator refuses, or is not the one that is meant.
    #[error("this machine cannot enrol")]
    Refused(#[source] RequestError),
    /// An operator does not want it.
    #[error("an operator turned this machine away")]
    Rejected,
    /// The runtime cannot be made.
    #[error("the network cannot be used")]
    Runtime(#[source] std::io::Error),
}

/// A run for a machine that enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// What the machine is called now.
    pub host_name: String,
    /// Its run.
    pub run: RunId,
    /// The run's one-time secret.
    pub claim: Secret,
    /// The coordinator's clock, ms since the Unix epoch.
    pub server_time_ms: i64,
}

/// Asks until there is a run. While the coordinator is away this goes on asking; every failure is shown.
pub fn enrol(
    client: &Client,
    timing: Timing,
    console: &dyn Console,
    mut request: EnrolRequest,
) -> Result<Enrolled, EnrolError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EnrolError::Runtime)?;
    let mut screen = Screen { said: String::new(), at: None };
    runtime.block_on(async {
        let mut backoff = Backoff::new(timing.first_retry, timing.longest_retry);
        loop {
            let pause = match client.enrol(&request).await {
                Err(error) if !error.is_transient() => return Err(EnrolError::Refused(error)),
                Err(error) => {
                    let wait = backoff.next();
                    console.line(&format!("{error}; next try in {}", spoken(wait)));
                    wait
                }
                Ok(EnrolAnswer::Rejected) => return Err(EnrolError::Rejected),
                Ok(EnrolAnswer::Run { host_name, run_id, claim_secret, server_time_ms }) => {
                    return Ok(Enrolled { host_name, run: run_id, claim: claim_secret, server_time_ms });
                }
                Ok(EnrolAnswer::Waiting { code, ticket, note, retry_ms }) => {
                    backoff = Backoff::new(timing.first_retry, timing.longest_retry);
                    screen.show(console, &waiting_lines(&code, note.as_deref(), &request.identity));
                    request.ticket = Some(ticket);
                    Duration::from_millis(retry_ms).min(LONGEST_PAUSE)
                }
                Ok(EnrolAnswer::Registered { host_name, ticket, retry_ms }) => {
                    backoff = Backoff::new(timing.first_retry, timing.longest_retry);
                    screen.show(console, &registered_lines(&host_name));
                    request.ticket = ticket.or(request.ticket);
                    Duration::from_millis(retry_ms).min(LONGEST_PAUSE)
                }
            };
            tokio::time::sleep(pause).await;
        }
    })
}

/// What the console shows while the machine waits.
struct Screen {
    said: String,
    at: Option<Instant>,
}

impl Screen {
    /// Shows lines that are new, or were shown long ago.
    fn show(&mut self, console: &dyn Console, lines: &[String]) {
        let text = lines.join("\n");
        let fresh = self.at.is_some_and(|at| clock::monotonic() - at < SHOWN_AGAIN);
        if fresh && text == self.said {
            return;
        }
        for line in lines {
            console.line(line);
        }
        (self.said, self.at) = (text, Some(clock::monotonic()));
    }
}

fn waiting_lines(code: &str, note: Option<&str>, identity: &Identity) -> Vec<String> {
    let frame = "=".repeat(FRAME_WIDTH);
    let model: Vec<&str> =
        [&identity.manufacturer, &identity.product].into_iter().flatten().map(String::as_str).collect();
    let serial = identity.system_serial.as_deref().unwrap_or("not told");
    let mut lines = vec![
        frame.clone(),
        format!("  THIS MACHINE IS NOT REGISTERED   CODE: {code}"),
        format!(
            "    {}, serial {serial}",
            if model.is_empty() { "unknown model".to_owned() } else { model.join(" ") }
        ),
    ];
    lines.extend(identity.nics.iter().map(|nic| format!("    card {}", nic.mac)));
    lines.extend(note.map(|note| format!("    {note}")));
    lines.push("  an operator takes it in on the coordinator's box:".to_owned());
    lines.push(format!("    vetting-coordinator host adopt {code} --spec FILE --start-run"));
    lines.push(frame);
    lines
}

fn registered_lines(host_name: &str) -> Vec<String> {
    vec![
        format!("this machine is registered as {host_name}, and no run is ordered; it waits for one:"),
        format!("  vetting-coordinator run start {host_name}"),
    ]
}
