//! What is kept of an output stream: its beginning and its end, so that a tool that talks for days still has its last
//! word. Refuses to grow beyond its limit.

use std::collections::VecDeque;

/// Stands in the place of what was left out.
const MARKER: &[u8] = b"\n[output left out]\n";

/// Head and tail of a stream.
#[derive(Debug, Default)]
pub(super) struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_bytes: usize,
    tail_bytes: usize,
    left_out: bool,
}

impl Kept {
    /// Keeps at most `limit_bytes` in all, half of them of the beginning.
    pub(super) fn new(limit_bytes: usize) -> Self {
        let head_bytes = limit_bytes / 2;
        let tail_bytes = limit_bytes - head_bytes;
        Self { head: Vec::new(), tail: VecDeque::new(), head_bytes, tail_bytes, left_out: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.head_bytes.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        if let Some(excess) = self.tail.len().checked_sub(self.tail_bytes).filter(|excess| *excess > 0) {
            self.tail.drain(..excess);
            self.left_out = true;
        }
    }

    /// What was kept, at most the limit and the marker's few bytes, and whether something was left out.
    pub(super) fn into_bytes(self) -> (Vec<u8>, bool) {
        let mut bytes = self.head;
        if self.left_out {
            bytes.extend_from_slice(MARKER);
        }
        bytes.extend(self.tail);
        (bytes, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(limit_bytes: usize, chunks: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut kept = Kept::new(limit_bytes);
        for chunk in chunks {
            kept.push(chunk);
        }
        kept.into_bytes()
    }

    #[test]
    fn beginning_and_end_are_kept_with_a_marker_between() {
        assert_eq!(kept(8, &[b"0123", b"4567"]), (b"01234567".to_vec(), false));
        assert_eq!(
            kept(8, &[b"0123", b"4567", b"89", b"abcdefgh"]),
            (b"0123\n[output left out]\nefgh".to_vec(), true)
        );
        assert_eq!(kept(0, &[b"x"]), (MARKER.to_vec(), true));
    }

    proptest! {
        #[test]
        fn how_it_came_does_not_matter(bytes: Vec<u8>, at in 0_usize..100, limit in 0_usize..100) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            let whole = kept(limit, &[&bytes]);
            prop_assert_eq!(&whole, &kept(limit, &[first, second]));
            prop_assert_eq!(whole.1, bytes.len() > limit);
            prop_assert!(whole.0.len() <= limit + MARKER.len());
        }
    }
}
