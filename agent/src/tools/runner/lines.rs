//! Cuts a tool's output into lines as a terminal would show them: progress meters rewrite their line with carriage
//! returns or backspaces, so those end a line too.

/// A line longer than this is cut there, so that a tool without line ends cannot fill the memory.
const LINE_LIMIT_BYTES: usize = 16 * 1024;

/// What has come of a line that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct LineCutter {
    pending: Vec<u8>,
}

impl LineCutter {
    /// Takes bytes and gives each line that they end; empty lines are left out.
    pub(super) fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(String)) {
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r' | 0x08) {
                self.flush(&mut emit);
            } else {
                self.pending.push(*byte);
                if self.pending.len() >= LINE_LIMIT_BYTES {
                    self.flush(&mut emit);
                }
            }
        }
    }

    /// Gives what is left at the end of the output.
    pub(super) fn flush(&mut self, mut emit: impl FnMut(String)) {
        if self.pending.iter().any(|byte| !byte.is_ascii_whitespace()) {
            emit(String::from_utf8_lossy(&self.pending).into_owned());
        }
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut cutter = LineCutter::default();
        for chunk in chunks {
            cutter.push(chunk, |line| lines.push(line));
        }
        cutter.flush(|line| lines.push(line));
        lines
    }

    #[test]
    fn newlines_returns_and_backspaces_end_a_line() {
        assert_eq!(
            cut(&[b"one\ntw", b"o\r\nthree\x08\x08\x08four", b"\x08five"]),
            ["one", "two", "three", "four", "five"]
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_a_line_without_end_is_cut() {
        assert_eq!(cut(&[b"\xff\xfea\n"]), ["\u{fffd}\u{fffd}a"]);
        assert_eq!(cut(&[&vec![b'x'; LINE_LIMIT_BYTES * 2 + 5]]).len(), 3);
    }

    proptest! {
        #[test]
        fn how_the_output_was_chunked_does_not_matter(bytes: Vec<u8>, at in 0_usize..100) {
            let at = at.min(bytes.len());
            prop_assert_eq!(cut(&[&bytes]), cut(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
