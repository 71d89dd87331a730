//! What became of the packets that came, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use vetting_protocol::named_enum;

named_enum! {
    /// What became of a packet.
    Outcome, "an outcome of a packet" {
        /// proxyDHCP: answered.
        DhcpAnswered = "dhcp_answered",
        /// proxyDHCP: the operating system would not send the answer.
        DhcpUnsent = "dhcp_unsent",
        /// proxyDHCP: not of a machine that boots from the network, or not meant for us.
        DhcpNotForUs = "dhcp_not_for_us",
        /// proxyDHCP: the machine's architecture has no live image.
        DhcpArchitecture = "dhcp_architecture",
        /// proxyDHCP: nobody registered the machine.
        DhcpUnregistered = "dhcp_unregistered",
        /// proxyDHCP: the machine asks too often.
        DhcpLimited = "dhcp_limited",
        /// proxyDHCP: not a whole request.
        DhcpMalformed = "dhcp_malformed",
        /// Another server named a machine a boot file of its own.
        DhcpOtherServer = "dhcp_other_server",
        /// TFTP: the client has the whole file.
        TftpSent = "tftp_sent",
        /// TFTP: the client gave up, as firmware does that only asks for the size, or is gone.
        TftpUnfinished = "tftp_unfinished",
        /// TFTP: a name that is not there, a write, a transfer mode we do not do.
        TftpRefused = "tftp_refused",
        /// TFTP: the client asks too often, or too many transfers are under way.
        TftpLimited = "tftp_limited",
        /// TFTP: not a request.
        TftpMalformed = "tftp_malformed",
    }
}

/// A counter for each [`Outcome`], since the start.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Outcome::ALL.len()]);

impl Counters {
    /// One more.
    pub fn count(&self, outcome: Outcome) {
        if let Some(counter) = self.0.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0.get(outcome as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// All of them, by name.
    pub fn all(&self) -> BTreeMap<String, u64> {
        Outcome::ALL.iter().map(|outcome| (outcome.to_string(), self.of(*outcome))).collect()
    }

    /// All that are not zero: `dhcp_answered=3 tftp_sent=2`.
    pub fn summary(&self) -> String {
        let counted = Outcome::ALL.iter().map(|outcome| (outcome, self.of(*outcome)));
        let texts: Vec<String> = counted
            .filter(|(_, packets)| *packets > 0)
            .map(|(outcome, packets)| format!("{outcome}={packets}"))
            .collect();
        texts.join(" ")
    }
}
