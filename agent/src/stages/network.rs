//! Stage Network: data to and from the coordinator over every network interface, one after the other and all together,
//! while their error counters are watched; and each link as it is against what it could be.
//!
//! Owns which interface is tested, and how. Refuses to call an interface tested whose own counters do not show the data
//! that was exchanged: it took another way.

mod exchange;
mod link;
mod neighbours;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::{Inventory, Nic};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{ExpectedLinks, StageWork};

use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::counterpart::NoCounterpart;
use crate::lldp::Neighbour;
use crate::tools::ip;
use crate::tools::iperf3::Direction;
use exchange::Exchange;
use link::Counters;
pub(super) use link::{Look, Ready};
use neighbours::Neighbours;

/// What comes around the tests of one interface.
const AROUND: Duration = Duration::from_secs(5);

pub(super) struct NetworkStage;

impl Stage for NetworkStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Network,
            effect: Effect::Load,
            applies_to: "network interfaces with a link, where the coordinator offers the test",
            finds: "slow links, half duplex, links that are lost, packets that arrive damaged",
        }
    }

    fn estimate(&self, work: &StageWork, inventory: Option<&Inventory>) -> Duration {
        let StageWork::Network { duration_ms, .. } = work else { return Duration::ZERO };
        let duration = Duration::from_millis(*duration_ms);
        let count = inventory.map_or(1, |inventory| {
            inventory.nics.iter().filter(|nic| nic.link == Some(true)).count().try_into().unwrap_or(u32::MAX)
        });
        (duration * 2 + AROUND).saturating_mul(count) + duration
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Network { duration_ms, links } = work else {
            return Err(StageError::WrongWork { stage: StageName::Network });
        };
        let context: &StageContext<'_> = context;
        let test = Test { context, duration: Duration::from_millis(*duration_ms), links: *links };
        test.run()
    }
}

/// Every interface of the inventory, as it stands now.
pub(super) fn look_at_all<'c>(
    context: &'c StageContext<'_>,
    server: Option<&[SocketAddr]>,
    links: ExpectedLinks,
) -> Result<Vec<(&'c Nic, Look)>, StageError> {
    let nics = &context.inventory()?.nics;
    let finished = context.tools.run(&ip::addresses_invocation(), &context.cancel, &mut |_, _| {})?;
    let interfaces = ip::parse_addresses(&finished)?;
    Ok(nics.iter().map(|nic| (nic, Look::at(context, nic, &interfaces, server, links))).collect())
}

/// Works one link in both directions while other parts work.
pub(super) fn work(context: &StageContext<'_>, ready: &Ready, duration: Duration) -> Found {
    match (Exchange { context, ready, direction: Direction::Both, duration }).run() {
        Ok(flows) => {
            flows.measure_together(context, &ready.nic);
            Found::new(Outcome::Pass, flows.details())
        }
        Err(outcome) => Found::new(outcome, json!({})),
    }
}

struct Test<'t, 'a> {
    context: &'t StageContext<'a>,
    duration: Duration,
    links: ExpectedLinks,
}

impl Test<'_, '_> {
    fn run(&self) -> Result<StageReport, StageError> {
        let context = self.context;
        let server = context.counterpart.addresses();
        let looks = look_at_all(context, server.as_deref().ok(), self.links)?;
        let left_out: Vec<Value> = looks
            .iter()
            .filter_map(|(nic, look)| match look {
                Look::LeftOut(reason) => Some(json!({ "nic": nic.name, "reason": reason })),
                Look::Fault(_) | Look::Untested(_) | Look::Ready(_) => None,
            })
            .collect();
        let under_test: Vec<&(&Nic, Look)> =
            looks.iter().filter(|(_, look)| !matches!(look, Look::LeftOut(_))).collect();
        let before: Vec<Counters> =
            under_test.iter().map(|(nic, _)| Counters::read(context.host, &nic.name)).collect();

        let connected = under_test
            .iter()
            .filter(|(_, look)| !matches!(look, Look::Fault(_)))
            .map(|(nic, _)| nic.name.as_str());
        let neighbours = Neighbours::listen(context, connected);

        let count = u32::try_from(under_test.len()).unwrap_or(u32::MAX).saturating_add(1);
        let sub_steps = SubSteps::new(context, count);
        let mut outcomes = Vec::new();
        for (ordinal, (nic, look)) in (0..).zip(under_test.iter().copied()) {
            outcomes.push(sub_steps.run(ordinal, &format!("{} iperf", nic.name), || match look {
                Look::Ready(ready) => self.alone(&sub_steps, ordinal, ready, server.as_ref().err()),
                Look::Fault(reason) => Found::new(Outcome::fail(reason), json!({})),
                Look::Untested(reason) | Look::LeftOut(reason) => {
                    Found::new(self.untested(reason, server.as_ref().err()), json!({}))
                }
            }));
        }
        let ready: Vec<&Ready> = looks
            .iter()
            .filter_map(|(_, look)| if let Look::Ready(ready) = look { Some(ready) } else { None })
            .collect();
        if server.is_ok() && !ready.is_empty() {
            outcomes.push(sub_steps.run(count - 1, "all together", || {
                sub_steps.by_time(count - 1, self.duration, || self.together(&ready))
            }));
        }
        let heard: BTreeMap<&str, Neighbour> = neighbours.heard(self.duration * 2).into_iter().collect();
        for ((nic, _), before) in under_test.iter().zip(&before) {
            Counters::read(context.host, &nic.name).measure_since(before, context);
        }
        Ok(StageReport {
            outcome: Outcome::worst_of(outcomes, "no network interface of this machine has a link"),
            details: json!({ "left_out": left_out, "neighbours": heard }),
        })
    }

    /// An interface that should be tested and cannot be.
    fn untested(&self, reason: &str, no_server: Option<&NoCounterpart>) -> Outcome {
        match (no_server, self.links) {
            (Some(why), _) => no_server_outcome(why),
            (None, ExpectedLinks::Connected) => Outcome::skip(reason),
            (None, ExpectedLinks::All) => Outcome::error(reason),
        }
    }

    /// One interface, in one direction after the other.
    fn alone(
        &self,
        sub_steps: &SubSteps<'_, '_>,
        ordinal: u32,
        ready: &Ready,
        no_server: Option<&NoCounterpart>,
    ) -> Found {
        if let Some(why) = no_server {
            return Found::new(no_server_outcome(why), json!({}));
        }
        let name = &ready.nic;
        let mut details = json!({ "way": ready.way.interface, "speed_mbps": ready.speed_mbps });
        let mut tested_mbps = None;
        let outcome = sub_steps.by_time(ordinal, self.duration * 2, || {
            for (direction, word) in [(Direction::Send, "send"), (Direction::Receive, "receive")] {
                let exchange = Exchange { context: self.context, ready, direction, duration: self.duration };
                let flows = match exchange.run() {
                    Ok(flows) => flows,
                    Err(outcome) => return outcome,
                };
                tested_mbps = flows.fastest_mbps;
                details[word] = flows.details();
                flows.measure(self.context, name);
            }
            Outcome::Pass
        });
        if let (Some(tested), Some(own)) = (tested_mbps, ready.speed_mbps) {
            let part = f64::from(tested) * 100.0 / f64::from(own);
            self.context.measure("iperf", format!("{name}/tested_part_of_link"), Some(part), "percent");
        }
        let outcome = match outcome {
            Outcome::Pass if ready.speed_mbps.is_none() && !ready.is_virtual => Outcome::skip(format!(
                "{name}: its driver does not tell the speed of its link, so its throughput was not judged"
            )),
            outcome => outcome,
        };
        Found::new(outcome, details)
    }

    /// All interfaces at once, each in both directions.
    fn together(&self, ready: &[&Ready]) -> Found {
        let found: Vec<(&str, Found)> = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for ready in ready.iter().copied() {
                let thread = scope.spawn(move || work(self.context, ready, self.duration));
                threads.push((ready.nic.as_str(), thread));
            }
            let end = |(name, thread): (_, std::thread::ScopedJoinHandle<'_, Found>)| {
                let crashed = |_| Found::new(Outcome::error(format!("{name}: its test crashed")), json!({}));
                (name, thread.join().unwrap_or_else(crashed))
            };
            threads.into_iter().map(end).collect()
        });
        let mut details = json!({});
        for (name, found) in &found {
            details[name] = found.details.clone();
        }
        let outcomes = found.into_iter().map(|(_, found)| found.outcome);
        Found::new(Outcome::worst_of(outcomes, "no interface"), details)
    }
}

/// A test without another end.
fn no_server_outcome(why: &NoCounterpart) -> Outcome {
    match why {
        NoCounterpart::NotOffered { reason } => Outcome::skip(reason),
        NoCounterpart::Unavailable { reason } => Outcome::error(reason),
        NoCounterpart::Cancelled => super::cancelled(),
    }
}

#[cfg(test)]
mod tests;
