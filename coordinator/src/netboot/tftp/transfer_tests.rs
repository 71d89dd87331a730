use proptest::prelude::*;

use super::*;

fn ack(block: u16) -> Vec<u8> {
    [[0, 4], block.to_be_bytes()].concat()
}

fn content(bytes: usize) -> Bytes {
    (0..=250_u8).cycle().take(bytes).collect()
}

/// A client that follows the RFCs; `lost` says of each datagram, in either direction, whether it is lost.
fn receive(mut transfer: Transfer, mut lost: impl FnMut() -> bool) -> Option<Vec<u8>> {
    let (mut block_bytes, mut window) = (512, 1);
    let (mut received, mut expected, mut done) = (Vec::new(), 1_u64, false);
    loop {
        let mut answers = Vec::new();
        let mut in_window = 0;
        for datagram in transfer.datagrams() {
            if lost() {
                continue;
            }
            if datagram[..2] == [0, 6] {
                let text = String::from_utf8(datagram[2..].to_vec()).unwrap();
                let texts: Vec<&str> = text.split_terminator('\0').collect();
                for pair in texts.chunks(2) {
                    match pair[0] {
                        "blksize" => block_bytes = pair[1].parse().unwrap(),
                        "windowsize" => window = pair[1].parse().unwrap(),
                        _ => {}
                    }
                }
                answers.push(ack(0));
                continue;
            }
            assert_eq!(datagram[..2], [0, 3]);
            let number = u16::from_be_bytes([datagram[2], datagram[3]]);
            if !done && number == on_the_wire(expected) {
                received.extend(&datagram[4..]);
                expected += 1;
                in_window += 1;
                done = datagram.len() - 4 < block_bytes;
                assert!(datagram.len() - 4 <= block_bytes);
                if in_window == window || done {
                    answers.push(ack(number));
                    in_window = 0;
                }
            } else {
                answers.push(ack(on_the_wire(expected - 1)));
            }
        }
        let mut next = Next::Wait;
        for answer in answers {
            if !lost() && matches!(next, Next::Wait | Next::Send) {
                let now = transfer.heard(&answer);
                next = if now == Next::Wait { next } else { now };
            }
        }
        if next == Next::Wait {
            next = transfer.silent();
        }
        match next {
            Next::Send | Next::Wait => {}
            Next::Done => return Some(received),
            Next::Lost => return done.then_some(received),
            Next::Refused => return None,
        }
    }
}

#[test]
fn a_plain_request_gets_blocks_of_512_one_by_one() {
    let mut transfer = Transfer::new(content(1024), Wanted::default());
    let first = transfer.datagrams();
    assert_eq!((first.len(), first[0].len(), &first[0][..4]), (1, 516, [0, 3, 0, 1].as_slice()));
    assert_eq!(transfer.heard(&ack(1)), Next::Send);
    assert_eq!(transfer.heard(&ack(2)), Next::Send);
    // a whole number of blocks: an empty one tells the end
    assert_eq!(transfer.datagrams(), vec![vec![0, 3, 0, 3]]);
    assert_eq!(transfer.heard(&ack(3)), Next::Done);
}

#[test]
fn options_are_granted_within_bounds() {
    let wanted =
        Wanted { block_bytes: Some(65_464), window: Some(65_535), timeout_seconds: Some(3), size: true };
    let mut transfer = Transfer::new(content(100_000), wanted);
    assert_eq!(
        transfer.datagrams(),
        vec![b"\0\x06blksize\x001468\0windowsize\x0016\0timeout\x003\0tsize\x00100000\0".to_vec()]
    );
    assert_eq!(transfer.patience(), Duration::from_secs(3));
    assert_eq!(transfer.heard(&ack(7)), Next::Wait, "options are acknowledged with block 0");
    assert_eq!(transfer.heard(&ack(0)), Next::Send);
    assert_eq!(transfer.datagrams().len(), 16);
    let patient = Wanted { timeout_seconds: Some(255), ..Wanted::default() };
    assert_eq!(Transfer::new(content(1), patient).datagrams()[0][..2], [0, 3], "not granted, not told");
}

#[test]
fn a_client_that_only_asks_for_the_size_may_go() {
    let mut transfer = Transfer::new(content(10), Wanted { size: true, ..Wanted::default() });
    assert_eq!(transfer.datagrams(), vec![b"\0\x06tsize\x0010\0".to_vec()]);
    assert_eq!(transfer.heard(b"\0\x05\0\x08User aborted\0"), Next::Refused);
}

#[test]
fn what_comes_twice_or_does_not_belong_is_ignored() {
    let mut transfer = Transfer::new(content(2000), Wanted::default());
    assert_eq!(transfer.heard(&ack(1)), Next::Send);
    for ignored in [ack(1), ack(0), ack(3), b"nonsense".to_vec(), b"\0\x01f\0octet\0".to_vec(), Vec::new()] {
        assert_eq!(transfer.heard(&ignored), Next::Wait, "{ignored:?}");
    }
}

#[test]
fn a_window_goes_on_after_its_last_block_that_arrived() {
    let wanted = Wanted { window: Some(4), ..Wanted::default() };
    let mut transfer = Transfer::new(content(10_000), wanted);
    assert_eq!(transfer.heard(&ack(0)), Next::Send);
    assert_eq!(transfer.heard(&ack(2)), Next::Send, "block 3 was lost");
    let blocks: Vec<u8> = transfer.datagrams().iter().map(|datagram| datagram[3]).collect();
    assert_eq!(blocks, [3, 4, 5, 6]);
}

#[test]
fn a_client_that_is_gone_is_given_up() {
    let mut transfer = Transfer::new(content(10), Wanted::default());
    for _ in 0..MOST_REPEATS {
        assert_eq!(transfer.silent(), Next::Send);
    }
    assert_eq!(transfer.silent(), Next::Lost);
}

#[test]
fn block_numbers_start_over() {
    let wanted = Wanted { block_bytes: Some(8), window: Some(16), ..Wanted::default() };
    let file = content(8 * 70_000 + 3);
    assert_eq!(receive(Transfer::new(file.clone(), wanted), || false).unwrap(), file);
}

proptest! {
    /// Loses fewer datagrams than a transfer repeats, so that nobody gives up, wherever they are lost.
    #[test]
    fn every_file_arrives_whole(
        bytes in 0_usize..20_000,
        block_bytes in proptest::option::of(8_u16..=65_464),
        window in proptest::option::of(1_u16..=100),
        size: bool,
        losses in proptest::collection::vec(any::<bool>(), 0..400),
    ) {
        let file = content(bytes);
        let wanted = Wanted { block_bytes, window, timeout_seconds: None, size };
        let mut losses = losses.into_iter();
        let mut lost_so_far = 0;
        let lost = || {
            let lost = losses.next().unwrap_or(false) && lost_so_far + 1 < MOST_REPEATS;
            lost_so_far += u8::from(lost);
            lost
        };
        prop_assert_eq!(receive(Transfer::new(file.clone(), wanted), lost).unwrap(), file);
    }

    #[test]
    fn hostile_answers_never_panic(bytes in 0_usize..3_000, window in 1_u16.., answers: Vec<Vec<u8>>) {
        let wanted = Wanted { window: Some(window), ..Wanted::default() };
        let mut transfer = Transfer::new(content(bytes), wanted);
        for answer in answers {
            transfer.heard(&answer);
            prop_assert!(transfer.datagrams().len() <= usize::from(LARGEST_WINDOW));
        }
    }
}
