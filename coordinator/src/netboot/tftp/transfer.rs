//! One file on its way to one client, as a state machine without sockets and clocks: what to send, what an answer
//! means, what silence means.

use std::time::Duration;

use bytes::Bytes;

use super::packet::{self, FromClient, Wanted};

/// Bytes in a block where the client asks for nothing else (RFC 1350).
const DEFAULT_BLOCK_BYTES: u16 = 512;
/// The largest block that fits a frame of 1500 bytes: firmware puts fragments together badly.
const LARGEST_BLOCK_BYTES: u16 = 1468;
/// The largest window granted: what a card's ring takes without loss.
const LARGEST_WINDOW: u16 = 16;
/// Silence before something is sent again, where the client asks for nothing else.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(1);
/// The longest such time granted: a client that is gone must not hold its place for long.
const LONGEST_PATIENCE_SECONDS: u8 = 10;
/// So often something is sent again before the client is given up.
const MOST_REPEATS: u8 = 5;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send [`Transfer::datagrams`], then wait for [`Transfer::patience`].
    Send,
    /// Go on waiting; the time does not start anew.
    Wait,
    /// The client has it all.
    Done,
    /// The client gave up.
    Refused,
    /// The client is gone.
    Lost,
}

/// A transfer. To start it, send its first [`Transfer::datagrams`].
#[derive(Debug)]
pub struct Transfer {
    content: Bytes,
    block_bytes: u16,
    window: u16,
    patience: Duration,
    /// What was granted, until the client has acknowledged it.
    granted: Option<Vec<u8>>,
    /// Blocks the client has.
    acknowledged: u64,
    repeats: u8,
}

impl Transfer {
    /// Grants what of the wishes is sensible.
    pub fn new(content: Bytes, wanted: Wanted) -> Self {
        let block_bytes = wanted.block_bytes.map(|bytes| bytes.min(LARGEST_BLOCK_BYTES));
        let window = wanted.window.map(|window| window.min(LARGEST_WINDOW));
        // RFC 2349: a timeout is granted as it is or not at all
        let seconds = wanted.timeout_seconds.filter(|seconds| *seconds <= LONGEST_PATIENCE_SECONDS);
        let granted: Vec<(&str, u64)> = [
            ("blksize", block_bytes.map(u64::from)),
            ("windowsize", window.map(u64::from)),
            ("timeout", seconds.map(u64::from)),
            ("tsize", wanted.size.then_some(content.len() as u64)),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect();
        Self {
            content,
            block_bytes: block_bytes.unwrap_or(DEFAULT_BLOCK_BYTES),
            window: window.unwrap_or(1),
            patience: seconds.map_or(DEFAULT_PATIENCE, |seconds| Duration::from_secs(seconds.into())),
            granted: (!granted.is_empty()).then(|| packet::option_acknowledgement(&granted)),
            acknowledged: 0,
            repeats: 0,
        }
    }

    /// How long to wait for an answer.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The last block is shorter than the others, and be it empty.
    fn blocks(&self) -> u64 {
        self.content.len() as u64 / u64::from(self.block_bytes) + 1
    }

    /// The last block of the window.
    fn sent(&self) -> u64 {
        self.blocks().min(self.acknowledged + u64::from(self.window))
    }

    /// What to send now.
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        if let Some(granted) = &self.granted {
            return vec![granted.clone()];
        }
        (self.acknowledged + 1..=self.sent()).map(|block| self.block(block)).collect()
    }

    fn block(&self, block: u64) -> Vec<u8> {
        let bytes = usize::from(self.block_bytes);
        let skipped = usize::try_from(block - 1).unwrap_or(usize::MAX).saturating_mul(bytes);
        let rest = self.content.get(skipped..).unwrap_or_default();
        packet::data(on_the_wire(block), &rest[..rest.len().min(bytes)])
    }

    /// What the client's datagram means. What does not belong here is ignored, as is an acknowledgement that comes
    /// twice: to answer it would double every later block (RFC 1123 section 4.2.3.1).
    pub fn heard(&mut self, bytes: &[u8]) -> Next {
        let block = match packet::read(bytes) {
            Ok(FromClient::Ack(block)) => block,
            Ok(FromClient::Error(_)) => return Next::Refused,
            Ok(FromClient::Read { .. } | FromClient::Write | FromClient::OtherMode) | Err(_) => {
                return Next::Wait;
            }
        };
        if self.granted.is_some() {
            if block != 0 {
                return Next::Wait;
            }
            self.granted = None;
        } else {
            let within = (self.acknowledged + 1..=self.sent()).find(|sent| on_the_wire(*sent) == block);
            let Some(acknowledged) = within else { return Next::Wait };
            self.acknowledged = acknowledged;
        }
        self.repeats = 0;
        if self.acknowledged == self.blocks() { Next::Done } else { Next::Send }
    }

    /// What it means that nothing came for [`Transfer::patience`].
    pub fn silent(&mut self) -> Next {
        if self.repeats == MOST_REPEATS {
            return Next::Lost;
        }
        self.repeats += 1;
        Next::Send
    }
}

/// Block numbers start over at 0 after 65535.
fn on_the_wire(block: u64) -> u16 {
    let [.., high, low] = block.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
