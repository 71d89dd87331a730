//! One test over one interface: a server is opened, data flows, and the interface's own counters confirm it.

use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::outcome::Outcome;

use super::link::Ready;
use super::no_server_outcome;
use crate::host::{Host, HostError};
use crate::stages::StageContext;
use crate::tools::iperf3::{self, Direction, Flow, Report};
use crate::tools::runner::ToolError;

/// Least part of the exchanged bytes that the interface must have counted. It counts headers too, so there are more.
const LEAST_COUNTED: f64 = 0.98;

/// A test to be done.
pub(super) struct Exchange<'e, 'a> {
    pub(super) context: &'e StageContext<'a>,
    pub(super) ready: &'e Ready,
    pub(super) direction: Direction,
    pub(super) duration: Duration,
}

/// What flowed.
pub(super) struct Flows {
    report: Report,
    /// The slower of the two links, Mbit/s; absent if this one's speed is not known.
    pub(super) fastest_mbps: Option<u32>,
}

/// What the interface counted.
struct Bytes {
    sent: u64,
    received: u64,
}

impl Bytes {
    fn read(host: &Host, nic: &str) -> Result<Self, HostError> {
        let count = |name: &str| host.number(&format!("/sys/class/net/{nic}/statistics/{name}"));
        Ok(Self { sent: count("tx_bytes")?, received: count("rx_bytes")? })
    }
}

impl Exchange<'_, '_> {
    /// Does it; what is not judged comes as an outcome that is no pass.
    pub(super) fn run(&self) -> Result<Flows, Outcome> {
        let (context, nic) = (self.context, &self.ready.nic);
        let error = |words: String| Outcome::error(format!("{nic}: {words}"));
        let server = context
            .counterpart
            .open(self.duration, &context.cancel)
            .map_err(|why| no_server_outcome(&why))?;
        let source = self.ready.way.source;
        let address = server
            .addresses
            .iter()
            .find(|address| address.is_ipv4() == source.is_ipv4())
            .ok_or_else(|| error(format!("the coordinator has no address that {source} reaches")))?;
        let link_mbps = self.ready.speed_mbps;
        let fastest_mbps = link_mbps.map(|own| server.link_mbps.map_or(own, |other| own.min(other)));
        let streams = iperf3::streams(fastest_mbps);
        let invocation =
            iperf3::invocation(*address, &self.ready.way, self.direction, streams, self.duration);
        let unread = |problem: HostError| error(problem.reason());
        let before = Bytes::read(context.host, nic).map_err(unread)?;
        let report = context
            .tools
            .run(&invocation, &context.cancel, &mut |_, _| {})
            .and_then(|finished| iperf3::parse(&finished, self.direction, self.duration))
            .map_err(|problem: ToolError| error(problem.reason()))?;
        let after = Bytes::read(context.host, nic).map_err(unread)?;
        for (flow, word, before, after) in [
            (report.sent, "sent", before.sent, after.sent),
            (report.received, "received", before.received, after.received),
        ] {
            let Some(flow) = flow else { continue };
            let counted = after.saturating_sub(before);
            if (counted as f64) < flow.bytes as f64 * LEAST_COUNTED {
                return Err(error(format!(
                    "{} bytes were {word}, but it counted only {counted}: they took another way, so it was not tested",
                    flow.bytes
                )));
            }
        }
        Ok(Flows { report, fastest_mbps })
    }
}

impl Flows {
    pub(super) fn details(&self) -> Value {
        let flow = |flow: Option<Flow>| {
            flow.map(|flow| {
                json!({
                    "bytes": flow.bytes,
                    "bits_per_second": flow.bits_per_second,
                    "retransmits": flow.retransmits,
                })
            })
        };
        json!({
            "sent": flow(self.report.sent),
            "received": flow(self.report.received),
            "judged_against_mbps": self.fastest_mbps,
        })
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, Flow)> {
        let flows = [("send", self.report.sent), ("receive", self.report.received)];
        flows.into_iter().filter_map(|(word, flow)| flow.map(|flow| (word, flow)))
    }

    /// Of one interface alone.
    pub(super) fn measure(&self, context: &StageContext<'_>, nic: &str) {
        for (word, flow) in self.each() {
            let bandwidth = Some(flow.bits_per_second);
            context.measure("iperf", format!("{nic}/{word}_bandwidth"), bandwidth, "bits_per_second");
            if let Some(fastest) = self.fastest_mbps {
                let percent = flow.bits_per_second * 100.0 / (f64::from(fastest) * 1e6);
                context.measure("iperf", format!("{nic}/{word}_percent_of_link"), Some(percent), "percent");
            }
            if let Some(count) = flow.retransmits {
                context.measure("iperf", format!("{nic}/{word}_retransmits"), Some(count as f64), "count");
            }
        }
    }

    /// Of one interface while all were at work: what they share is not known, so there is no part of a link.
    pub(super) fn measure_together(&self, context: &StageContext<'_>, nic: &str) {
        for (word, flow) in self.each() {
            let bandwidth = Some(flow.bits_per_second);
            context.measure(
                "iperf",
                format!("together/{nic}/{word}_bandwidth"),
                bandwidth,
                "bits_per_second",
            );
        }
    }
}
