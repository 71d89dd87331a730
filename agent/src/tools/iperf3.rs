//! iperf3 (3.12 to 3.18) as a client: exchanges data with a server over one interface, by TCP.
//!
//! With `--json` older ones end with code 0 whatever happened, and tell of an error only in the JSON. Refuses to call a test one that
//! moved nothing, ended early, or left out a direction.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::runner::{Finished, Invocation, ToolError};
use crate::counterpart::Way;

const TOOL: &str = "iperf3";
/// Longest wait for the server, milliseconds.
const CONNECT_TIMEOUT_MS: &str = "10000";
/// Least part of the asked duration that data must have flowed.
const LEAST_WORKED: f64 = 0.9;
/// It reports a test in so many parts, and each is between a second and a minute: all must fit in what is kept of it.
const PARTS: u64 = 100;
/// From this speed on one stream does not fill a link: the CPU that serves it is too slow.
const FAST_MBPS: u32 = 10_000;
const STREAMS_OF_FAST: u32 = 4;
/// The same for the fastest.
const VERY_FAST_MBPS: u32 = 40_000;
const STREAMS_OF_VERY_FAST: u32 = 8;

/// Which way data flows, seen from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Send,
    /// From it.
    Receive,
    /// Both at once.
    Both,
}

/// How many streams fill a link of this speed, Mbit/s.
pub fn streams(link_mbps: Option<u32>) -> u32 {
    match link_mbps.unwrap_or(0) {
        VERY_FAST_MBPS.. => STREAMS_OF_VERY_FAST,
        FAST_MBPS.. => STREAMS_OF_FAST,
        0..FAST_MBPS => 1,
    }
}

/// Exchanges data with `server` over `way` for `duration`.
pub fn invocation(
    server: SocketAddr,
    way: &Way,
    direction: Direction,
    streams: u32,
    duration: Duration,
) -> Invocation {
    let seconds = u64::try_from(duration.as_millis().div_ceil(1000).max(1)).unwrap_or(u64::MAX);
    let interval = (seconds / PARTS).clamp(1, 60);
    let mut args: Vec<std::ffi::OsString> = vec![
        format!("--client={}", server.ip()).into(),
        format!("--port={}", server.port()).into(),
        // the address and the device: the kernel might take another way to an address it has a shorter one to
        format!("--bind={}", way.source).into(),
        format!("--bind-dev={}", way.interface).into(),
        format!("--time={seconds}").into(),
        format!("--interval={interval}").into(),
        format!("--parallel={streams}").into(),
        format!("--connect-timeout={CONNECT_TIMEOUT_MS}").into(),
        "--json".into(),
    ];
    match direction {
        Direction::Send => {}
        Direction::Receive => args.push("--reverse".into()),
        Direction::Both => args.push("--bidir".into()),
    }
    Invocation { tool: TOOL, args, timeout: duration + Duration::from_secs(45) }
}

/// Data that flowed one way, as its receiver counted it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    /// All of it.
    pub bytes: u64,
    /// Bits a second, without headers.
    pub bits_per_second: f64,
    /// Segments that were sent again; absent where the sender did not tell.
    pub retransmits: Option<u64>,
}

/// What a test did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// From this machine; present if it was asked to.
    pub sent: Option<Flow>,
    /// To it; likewise.
    pub received: Option<Flow>,
}

#[derive(Deserialize)]
struct Json {
    error: Option<String>,
    end: Option<End>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names that iperf3 gives them")]
struct End {
    sum_sent: Option<Sum>,
    sum_received: Option<Sum>,
    sum_sent_bidir_reverse: Option<Sum>,
    sum_received_bidir_reverse: Option<Sum>,
}

#[derive(Deserialize)]
struct Sum {
    seconds: f64,
    bytes: f64,
    bits_per_second: f64,
    retransmits: Option<u64>,
}

fn garbage(message: impl Into<String>) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.into() }
}

/// Reads what a test did that was asked for `direction` and for `asked`.
pub fn parse(finished: &Finished, direction: Direction, asked: Duration) -> Result<Report, ToolError> {
    let code = finished.code(TOOL)?;
    let failed = |message| ToolError::Failed { tool: TOOL.to_owned(), code, message };
    let json: Json = match serde_json::from_slice(&finished.stdout) {
        Ok(json) => json,
        Err(_) if code != 0 => return Err(failed(finished.last_words())),
        Err(error) => return Err(garbage(format!("its JSON cannot be read: {error}"))),
    };
    if let Some(error) = json.error {
        return Err(failed(error));
    }
    if code != 0 {
        return Err(failed(finished.last_words()));
    }
    let end = json.end.ok_or_else(|| garbage("there is no end in it"))?;
    let forth = flow(end.sum_sent, end.sum_received, asked);
    let back = flow(end.sum_sent_bidir_reverse, end.sum_received_bidir_reverse, asked);
    Ok(match direction {
        Direction::Send => Report { sent: Some(forth?), received: None },
        // --reverse turns the one flow there is round
        Direction::Receive => Report { sent: None, received: Some(forth?) },
        Direction::Both => Report { sent: Some(forth?), received: Some(back?) },
    })
}

fn flow(sent: Option<Sum>, received: Option<Sum>, asked: Duration) -> Result<Flow, ToolError> {
    let (Some(sent), Some(received)) = (sent, received) else {
        return Err(garbage("a direction is missing"));
    };
    // NaN is neither
    let moved = received.bytes >= 1.0 && received.bits_per_second > 0.0;
    if !moved {
        return Err(ToolError::NothingDone { tool: TOOL.to_owned() });
    }
    let (seconds, asked) = (received.seconds, asked.as_secs_f64());
    let long_enough = seconds >= asked * LEAST_WORKED;
    if !long_enough {
        return Err(garbage(format!("data flowed for {seconds:.1} s instead of {asked:.1} s")));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of bytes are whole, positive, and far below 2^64"
    )]
    let bytes = received.bytes as u64;
    Ok(Flow { bytes, bits_per_second: received.bits_per_second, retransmits: sent.retransmits })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::tools::fixture;
    use crate::tools::runner::Exit;

    const ASKED: Duration = Duration::from_secs(3);

    fn read(case: &str, direction: Direction) -> Result<Report, ToolError> {
        parse(&fixture(TOOL, case), direction, ASKED)
    }

    #[test]
    fn every_direction_is_read() {
        let sent = read("3.12-good-send", Direction::Send).unwrap();
        assert_eq!(sent.received, None);
        let sent = sent.sent.unwrap();
        assert_eq!((sent.bytes, sent.retransmits), (2_853_830_656, Some(1_200)));
        let received = read("3.12-good-receive", Direction::Receive).unwrap();
        assert_eq!(received.sent, None);
        let received = received.received.unwrap();
        assert!((received.bits_per_second - 95_658_535.6).abs() < 1.0, "{received:?}");
        for case in ["3.12-good-both", "3.12-good-both-parallel", "3.18-good-both", "3.18-good-both-parallel"]
        {
            let both = read(case, Direction::Both).unwrap();
            let (sent, received) = (both.sent.unwrap(), both.received.unwrap());
            // the way back was made to carry no more than 100 Mbit/s
            assert!(sent.bits_per_second > 200e6 && received.bits_per_second < 100e6, "{both:?}");
        }
        assert!(read("3.18-good-send", Direction::Send).is_ok_and(|report| report.sent.is_some()));
        assert!(read("3.18-good-receive", Direction::Receive).is_ok_and(|report| report.received.is_some()));
    }

    #[test]
    fn a_test_that_lacks_a_direction_is_none() {
        assert!(matches!(read("3.12-good-send", Direction::Both), Err(ToolError::Garbage { .. })));
        let longer = parse(&fixture(TOOL, "3.12-good-send"), Direction::Send, ASKED * 2);
        assert!(matches!(longer, Err(ToolError::Garbage { .. })));
    }

    #[test]
    fn errors_are_errors_whatever_the_code() {
        for (case, words) in [
            ("3.18-busy", "the server is busy running a test"),
            ("3.18-refused", "Connection refused"),
            ("3.18-server-killed", "control socket has closed"),
            ("3.12-busy", "the server is busy running a test"),
            ("3.12-refused", "Connection refused"),
            ("3.12-no-route", "No route to host"),
            ("3.12-no-device", "No such device"),
            ("3.12-server-killed", "Connection reset by peer"),
        ] {
            let error = read(case, Direction::Send).unwrap_err();
            let code = i32::from(case.starts_with("3.18"));
            assert!(
                matches!(&error, ToolError::Failed { code: told, .. } if *told == code),
                "{case}: {error}"
            );
            assert!(error.to_string().contains(words), "{case}: {error}");
        }
    }

    #[test]
    fn a_killed_or_silent_client_is_an_error() {
        let whole = fixture(TOOL, "3.12-good-send");
        let killed = Finished { exit: Exit::Signal(9), ..whole.clone() };
        assert!(matches!(parse(&killed, Direction::Send, ASKED), Err(ToolError::Signalled { .. })));
        let cut = Finished { stdout: whole.stdout[..whole.stdout.len() / 2].to_vec(), ..whole.clone() };
        assert!(matches!(parse(&cut, Direction::Send, ASKED), Err(ToolError::Garbage { .. })));
        let silent = Finished { stdout: Vec::new(), exit: Exit::Code(1), ..whole };
        assert!(matches!(parse(&silent, Direction::Send, ASKED), Err(ToolError::Failed { code: 1, .. })));
    }

    #[test]
    fn a_test_that_moved_nothing_is_none() {
        let none = r#"{"end": {"sum_sent": {"seconds": 3, "bytes": 0, "bits_per_second": 0},
            "sum_received": {"seconds": 3, "bytes": 0, "bits_per_second": 0}}}"#;
        let finished = Finished { stdout: none.into(), ..fixture(TOOL, "3.12-good-send") };
        assert!(matches!(parse(&finished, Direction::Send, ASKED), Err(ToolError::NothingDone { .. })));
    }

    #[test]
    fn fast_links_get_more_streams() {
        let counts = [None, Some(1_000), Some(10_000), Some(25_000), Some(100_000)].map(streams);
        assert_eq!(counts, [1, 1, 4, 4, 8]);
    }
}
