//! Whatever comes to the port of TFTP and to a transfer's own: nothing panics, and a client is sent no more than a window
//! of whole frames at a time.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use vetting_coordinator::netboot::tftp::packet::{FromClient, read};
use vetting_coordinator::netboot::tftp::transfer::{Next, Transfer};

/// The largest window and the largest datagram that a transfer grants.
const MOST_DATAGRAMS: usize = 16;
const LONGEST_DATAGRAM: usize = 1472;

// the first byte says how long the request is; what follows it are datagrams of four bytes, as acknowledgements are
fuzz_target!(|bytes: &[u8]| {
    let _ = read(bytes);
    let Some((length, rest)) = bytes.split_first() else { return };
    let (request, answers) = rest.split_at(rest.len().min(usize::from(*length) * 2));
    let Ok(FromClient::Read { wanted, .. }) = read(request) else { return };
    let mut transfer = Transfer::new(Bytes::from_static(&[7; 100_000]), wanted);
    for answer in answers.chunks(4) {
        let datagrams = transfer.datagrams();
        assert!((1..=MOST_DATAGRAMS).contains(&datagrams.len()), "{} datagrams", datagrams.len());
        assert!(datagrams.iter().all(|datagram| datagram.len() <= LONGEST_DATAGRAM));
        if !matches!(transfer.heard(answer), Next::Send | Next::Wait) {
            return;
        }
    }
});
