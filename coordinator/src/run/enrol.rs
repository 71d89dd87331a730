//! Machines that nobody registered: taken in by a token, by an operator, or turned away.
//!
//! Nothing a machine says is trusted: it is shown to an operator, cleaned, and compared with what is recorded. What it
//! cannot do: register itself without a token, take the place of a registered machine, or fill the database.

mod identity;

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::enrolment::{Adopt, Adopted, EnrolAnswer, EnrolRequest, Identity};
use vetting_protocol::ids::{HostId, MacAddress, RunId};
use vetting_protocol::secret::Secret;

use identity::{described, primary_card, record_identity, take_over_cards};

use super::claimant::known_machines;
use super::driver::{Driver, to_its_end};
use super::error::RunError;
use super::orders::{Recipe, place};
use super::{secrets, specs};
use crate::enrolment::recognise::{Recognition, recognise};
use crate::enrolment::words;
use crate::store::enrolment::{self, EnrolmentRow, EnrolmentState, NewEnrolment, TokenRow};
use crate::store::events::{self, EventValues};
use crate::store::hosts::{self, HostRow, HostValues};
use crate::store::runs::OverrideFlags;
use crate::store::{Connection, StoreError};

/// Between two questions of a machine that waits.
const ASK_AGAIN_MS: u64 = 5_000;
/// A waiting machine that does not ask for so long is gone.
const GONE_MS: i64 = 10 * 60_000;
/// How often it is noted that a machine still asks: its questions must not cost a commit each.
const SEEN_AGAIN_MS: i64 = 60_000;
/// UDP port of Wake-on-LAN for machines that enrol.
const WOL_PORT: u16 = 9;

/// What a machine that asks is to be told, before a run was looked for.
enum Found {
    Waiting { code: String, note: Option<String>, ticket: Secret },
    Host { id: HostId, name: String, ticket: Option<Secret>, started: Option<RunId> },
    Rejected,
}

/// A request, ready for the database.
struct Question {
    token: Option<Secret>,
    ticket: Option<Secret>,
    fresh_ticket: Secret,
    fresh_code: String,
    identity: Identity,
    /// The one a host would be registered with.
    card: MacAddress,
    address: IpAddr,
    now_ms: i64,
}

impl Driver {
    /// Answers a machine that asks to be taken in.
    ///
    /// # Errors
    /// Another protocol, a machine without a network card, or more machines than can wait.
    pub async fn enrol(&self, request: EnrolRequest, address: IpAddr) -> Result<EnrolAnswer, RunError> {
        let driver = self.clone();
        to_its_end(async move { driver.answer_enrolment(request, address).await }).await
    }

    async fn answer_enrolment(
        &self,
        request: EnrolRequest,
        address: IpAddr,
    ) -> Result<EnrolAnswer, RunError> {
        if request.protocol_version != PROTOCOL_VERSION {
            let (agent, coordinator) = (request.protocol_version, PROTOCOL_VERSION);
            return Err(RunError::ProtocolVersion { agent, coordinator });
        }
        let identity = words::cleaned(&request.identity);
        let card = primary_card(&identity)?;
        let now_ms = self.clock.now_ms();
        let question = Question {
            token: request.token,
            ticket: request.ticket,
            fresh_ticket: secrets::fresh()?,
            fresh_code: fresh_code()?,
            identity,
            card,
            address,
            now_ms,
        };
        let driver = self.clone();
        let found = self.store.write(move |connection| driver.decide(connection, question)).await?;
        let (id, host_name, ticket, started) = match found {
            Found::Rejected => return Ok(EnrolAnswer::Rejected),
            Found::Waiting { code, note, ticket } => {
                return Ok(EnrolAnswer::Waiting { code, ticket, note, retry_ms: ASK_AGAIN_MS });
            }
            Found::Host { id, name, ticket, started } => (id, name, ticket, started),
        };
        if let Some(run) = started {
            self.placed(run).await;
        }
        let run = self.store.read(move |connection| Self::waiting_run(connection, id)).await?;
        if let Some(run_id) = run {
            let why = format!("given to the machine that enrolled from {address}");
            if let Some(claim_secret) = self.offer(run_id, why, now_ms).await? {
                let server_time_ms = self.clock.now_ms();
                return Ok(EnrolAnswer::Run { host_name, run_id, claim_secret, server_time_ms });
            }
        }
        Ok(EnrolAnswer::Registered { host_name, ticket, retry_ms: ASK_AGAIN_MS })
    }

    /// All that an enrolment reads and writes, in one transaction.
    fn decide(&self, connection: &Connection, question: Question) -> Result<Found, RunError> {
        let now_ms = question.now_ms;
        self.sweep_enrolments(connection, now_ms)?;
        let asked_before = match &question.ticket {
            Some(ticket) => enrolment::by_ticket(connection, ticket.sha256())?,
            None => None,
        };
        let recognised = recognise(
            &known_machines(connection)?,
            &question.identity,
            &self.settings.enrolment.ignored_uuids,
        );
        if let Some(row) = asked_before {
            return answer_again(connection, row, &recognised, question);
        }
        let note = match recognised {
            Recognition::Match { host } => {
                let host = hosts::get(connection, host)?;
                return Ok(Found::Host { id: host.id, name: host.name, ticket: None, started: None });
            }
            Recognition::NewMachine => match &question.token {
                None => None,
                Some(token) => match self.try_token(connection, token, &question)? {
                    Ok(found) => return Ok(found),
                    Err(refusal) => Some(refusal),
                },
            },
            Recognition::Conflict { why } => Some(why),
        };
        let since_ms = now_ms.saturating_sub(self.settings.enrolment.code_valid_ms);
        if enrolment::turned_away(connection, question.card, since_ms)? {
            return Ok(Found::Rejected);
        }
        wait(connection, question, note)
    }

    fn sweep_enrolments(&self, connection: &Connection, now_ms: i64) -> Result<(), RunError> {
        let codes_ms = now_ms.saturating_sub(self.settings.enrolment.code_valid_ms);
        enrolment::sweep(connection, now_ms.saturating_sub(GONE_MS), codes_ms)?;
        Ok(())
    }

    /// Registers a new machine if its token is good; else why it is not.
    fn try_token(
        &self,
        connection: &Connection,
        token: &Secret,
        question: &Question,
    ) -> Result<Result<Found, String>, RunError> {
        let now_ms = question.now_ms;
        let Some(token) = enrolment::find_token(connection, token.sha256())? else {
            return Ok(Err("its enrolment token is not known here".to_owned()));
        };
        let mac = question.card;
        if let Some(other) = hosts::by_mac(connection, mac)? {
            return Ok(Err(format!("the card {mac} it would be registered with belongs to {}", other.name)));
        }
        if !enrolment::use_token(connection, token.id, now_ms)? {
            return Ok(Err(format!("its enrolment token {} {}", token.id, why_useless(&token, now_ms))));
        }
        let wanted = words::host_name(&token.values.name_pattern, &question.identity, mac);
        let name = match hosts::by_name(connection, &wanted)? {
            None => wanted,
            Some(_) => words::distinct_name(&wanted, mac),
        };
        let spec = token.values.expected_spec_yaml.clone();
        let host = self.register(connection, &question.identity, name, spec, now_ms)?;
        let recipe =
            token.values.start_profile.map(|profile| self.recipe(profile, false, OverrideFlags::NONE));
        let placed = recipe.map(|recipe| try_run(connection, &host, &recipe, now_ms)).transpose()?;
        let uses = token.uses + 1;
        let message = format!(
            "{} at {} enrolled with token {} (use {uses} of {})",
            host.name, question.address, token.id, token.values.uses_allowed
        );
        tell(connection, now_ms, EventLevel::Info, "host_enrolled", message, Some(host.id))?;
        let started = match placed {
            Some(Ok(run)) => Some(run),
            Some(Err(why)) => {
                let message = format!("{} enrolled, but its run was not started: {why}", host.name);
                tell(connection, now_ms, EventLevel::Warning, "run_not_started", message, Some(host.id))?;
                None
            }
            None => None,
        };
        Ok(Ok(Found::Host { id: host.id, name: host.name, ticket: None, started }))
    }

    /// Makes a host of a machine's identity.
    fn register(
        &self,
        connection: &Connection,
        identity: &Identity,
        name: String,
        expected_spec_yaml: String,
        now_ms: i64,
    ) -> Result<HostRow, RunError> {
        let values = HostValues {
            name,
            mac: primary_card(identity)?,
            wol_broadcast_ip: Ipv4Addr::BROADCAST,
            wol_port: WOL_PORT,
            expected_spec_yaml,
            notes: format!("enrolled: {}", described(identity)),
        };
        let host = hosts::insert(connection, &values, now_ms)?;
        record_identity(connection, host, identity, &self.settings.enrolment.ignored_uuids, now_ms)?;
        Ok(hosts::get(connection, host)?)
    }

    /// Takes a waiting machine in: as a new host, or as a registered one with another board or other cards. `line` begins
    /// with who ordered it.
    ///
    /// # Errors
    /// No machine waits with that code; a name or card that is taken; a run for a host without a spec.
    pub async fn adopt(&self, code: String, adopt: Adopt, line: EventValues) -> Result<Adopted, RunError> {
        let driver = self.clone();
        to_its_end(async move {
            let recipe = adopt.start_run.map(|profile| driver.recipe(profile, false, OverrideFlags::NONE));
            let taking = driver.clone();
            let adopted = driver
                .store
                .write(move |connection| taking.take_in(connection, &code, adopt, recipe.as_ref(), line))
                .await?;
            if let Some(run) = adopted.run {
                driver.placed(run).await;
            }
            Ok(adopted)
        })
        .await
    }

    fn take_in(
        &self,
        connection: &Connection,
        code: &str,
        adopt: Adopt,
        recipe: Option<&Recipe>,
        mut line: EventValues,
    ) -> Result<Adopted, RunError> {
        let now_ms = line.ts_ms;
        self.sweep_enrolments(connection, now_ms)?;
        let row = enrolment::by_code(connection, &words::typed_code(code))?;
        let identity = &row.identity;
        let host = match (adopt.into, adopt.name) {
            (Some(_), Some(_)) => {
                let what = "`name` is for a new host, `into` for a registered one; leave one out".to_owned();
                return Err(RunError::Invalid { what });
            }
            (Some(into), None) => {
                let host = hosts::require_by_name(connection, &into)?;
                let ignored = &self.settings.enrolment.ignored_uuids;
                take_over_cards(connection, &host, identity, now_ms)?;
                record_identity(connection, host.id, identity, ignored, now_ms)?;
                if let Some(spec) = adopt.expected_spec_yaml {
                    let values = HostValues { expected_spec_yaml: spec, ..HostValues::from(host.clone()) };
                    hosts::update(connection, host.id, &values, now_ms)?;
                }
                hosts::get(connection, host.id)?
            }
            (None, name) => {
                let mac = primary_card(identity)?;
                let name = name.unwrap_or_else(|| words::host_name(words::DEFAULT_PATTERN, identity, mac));
                let spec = adopt.expected_spec_yaml.unwrap_or_default();
                self.register(connection, identity, name, spec, now_ms)?
            }
        };
        enrolment::decide(connection, row.id, EnrolmentState::Accepted, Some(host.id))?;
        let run = recipe.map(|recipe| place(connection, &host, recipe, now_ms)).transpose()?;
        if let Some(run) = run {
            let message = format!("{}ordered the run", line.message);
            let kind = "operator_order".to_owned();
            events::insert(connection, &EventValues { run_id: Some(run), kind, message, ..line.clone() })?;
        }
        let what = format!("adopted the machine with code {} as {}", row.code, host.name);
        line.message += &what;
        events::insert(connection, &EventValues { host_id: Some(host.id), ..line })?;
        Ok(Adopted { host_id: host.id, name: host.name, run })
    }

    /// Turns a waiting machine away. `line` says who ordered it.
    ///
    /// # Errors
    /// No machine waits with that code.
    pub async fn reject(&self, code: String, line: EventValues) -> Result<(), RunError> {
        let driver = self.clone();
        self.store
            .write(move |connection| {
                driver.sweep_enrolments(connection, line.ts_ms)?;
                let row = enrolment::by_code(connection, &words::typed_code(&code))?;
                enrolment::decide(connection, row.id, EnrolmentState::Rejected, None)?;
                events::insert(connection, &line)?;
                Ok::<_, RunError>(())
            })
            .await
    }

    /// The machines that wait, the longest first.
    pub async fn pending(&self) -> Result<Vec<EnrolmentRow>, RunError> {
        let now_ms = self.clock.now_ms();
        let driver = self.clone();
        self.store
            .write(move |connection| {
                driver.sweep_enrolments(connection, now_ms)?;
                Ok(enrolment::waiting(connection)?)
            })
            .await
    }
}

/// The run that a token starts; else why it cannot be had, and nothing of it was written: since the token was made, the profile
/// may have been replaced, or the model removed that its spec names.
fn try_run(
    connection: &Connection,
    host: &HostRow,
    recipe: &Recipe,
    now_ms: i64,
) -> Result<Result<RunId, String>, RunError> {
    match specs::resolve(connection, &host.expected_spec_yaml) {
        Ok(_) => {}
        Err(missing @ StoreError::NotFound { .. }) => return Ok(Err(missing.to_string())),
        Err(error) => return Err(error.into()),
    }
    match place(connection, host, recipe, now_ms) {
        Ok(run) => Ok(Ok(run)),
        Err(RunError::Invalid { what }) => Ok(Err(what)),
        Err(error) => Err(error),
    }
}

/// A machine that asked before, and is known by its ticket.
fn answer_again(
    connection: &Connection,
    row: EnrolmentRow,
    recognised: &Recognition,
    question: Question,
) -> Result<Found, RunError> {
    let now_ms = question.now_ms;
    let address = question.address.to_string();
    if now_ms.saturating_sub(row.last_seen_at_ms) >= SEEN_AGAIN_MS {
        enrolment::seen(connection, row.id, &address, now_ms)?;
    }
    let ticket = question.ticket.unwrap_or(question.fresh_ticket);
    match (row.state, row.host_id, recognised) {
        (EnrolmentState::Rejected, _, _) => Ok(Found::Rejected),
        (EnrolmentState::Accepted, Some(id), _) => {
            let name = hosts::name_of(connection, id)?;
            Ok(Found::Host { id, name, ticket: Some(ticket), started: None })
        }
        // an operator registered it by hand meanwhile
        (EnrolmentState::Waiting, _, Recognition::Match { host }) => {
            enrolment::decide(connection, row.id, EnrolmentState::Accepted, Some(*host))?;
            let name = hosts::name_of(connection, *host)?;
            Ok(Found::Host { id: *host, name, ticket: Some(ticket), started: None })
        }
        (EnrolmentState::Waiting | EnrolmentState::Accepted, _, _) => {
            Ok(Found::Waiting { code: row.code, note: row.note, ticket })
        }
    }
}

fn wait(connection: &Connection, question: Question, note: Option<String>) -> Result<Found, RunError> {
    let Question { fresh_ticket, fresh_code, identity, card, address, now_ms, .. } = question;
    let described = described(&identity);
    let new = NewEnrolment {
        code: fresh_code,
        ticket_hash: fresh_ticket.sha256(),
        identity,
        card,
        address: address.to_string(),
        note,
    };
    let Some(row) = enrolment::insert(connection, &new, now_ms)? else {
        let what = "too many machines wait for an operator; `host pending` lists them".to_owned();
        return Err(RunError::TooMany { what });
    };
    let note = row.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    let message = format!(
        "a machine at {address} waits ({described}){note}; `host adopt {code}` takes it in",
        code = row.code
    );
    tell(connection, now_ms, EventLevel::Warning, "machine_waiting", message, None)?;
    Ok(Found::Waiting { code: row.code, note: row.note, ticket: fresh_ticket })
}

fn why_useless(token: &TokenRow, now_ms: i64) -> &'static str {
    if token.revoked_at_ms.is_some() {
        "is revoked"
    } else if token.values.expires_at_ms <= now_ms {
        "has expired"
    } else {
        "is used up"
    }
}

fn tell(
    connection: &Connection,
    ts_ms: i64,
    level: EventLevel,
    kind: &str,
    message: String,
    host_id: Option<HostId>,
) -> Result<(), RunError> {
    let data = host_id.map(|host| json!({"host_id": host}));
    let line = EventValues { run_id: None, host_id, ts_ms, level, kind: kind.to_owned(), message, data };
    events::insert(connection, &line)?;
    Ok(())
}

fn fresh_code() -> Result<String, secrets::RandomError> {
    loop {
        let mut bytes = [0; words::CODE_LENGTH];
        getrandom::fill(&mut bytes).map_err(|source| secrets::RandomError { source })?;
        if let Some(code) = words::code(bytes) {
            return Ok(code);
        }
    }
}
