//! What an earlier boot left behind of its end: the last words of a kernel that died (pstore), and error records that
//! this boot's kernel found.
//!
//! pstore keeps a dump in pieces of about a kilobyte, each a file `dmesg-STORE-ID` whose first line is `Panic#1 Part3`;
//! part 1 is the newest piece, so that the last part comes first in time (Linux, fs/pstore/platform.c).

use vetting_protocol::crash::{CrashDump, LeftBehind, MOST_DUMPS, MOST_LINE_CHARS, MOST_LINES};

use crate::host::Host;

/// Where pstore is mounted.
pub const PSTORE: &str = "/sys/fs/pstore";

/// Pieces of one dump are written within this time of each other.
const ONE_DUMP_MS: u64 = 10_000;

/// A piece of a dump.
#[derive(Debug, PartialEq, Eq)]
struct Piece<'t> {
    /// `Panic`.
    reason: &'t str,
    /// Counts the dumps of one boot.
    number: u32,
    /// 1 is the newest.
    part: u32,
    lines: Vec<&'t str>,
}

/// Looks at everything there is. Nothing is removed.
pub fn collect(host: &Host) -> LeftBehind {
    let mut left = LeftBehind::default();
    match host.list(PSTORE) {
        Ok(names) => left.dumps = dumps(host, &names, &mut left.unread),
        Err(error) => left.unread.push(error.reason()),
    }
    match host.kernel_log_so_far() {
        Ok(lines) => left.hardware_errors = hardware_errors(&lines),
        Err(error) => left.unread.push(error.reason()),
    }
    left
}

/// Frees what holds the dumps, once they are told: a full store takes no further one. Gives what could not be removed.
pub fn forget(host: &Host) -> Vec<std::io::Error> {
    let names = host.list(PSTORE).unwrap_or_default();
    let dumps = names.iter().filter(|name| store_of(name).is_some());
    dumps.filter_map(|name| std::fs::remove_file(host.path(&format!("{PSTORE}/{name}"))).err()).collect()
}

/// `efi_pstore` of `dmesg-efi_pstore-167…001`.
fn store_of(name: &str) -> Option<&str> {
    name.strip_prefix("dmesg-")?.rsplit_once('-').map(|(store, _)| store)
}

/// A piece with where it was kept and when it was written.
struct Kept {
    store: String,
    reason: String,
    number: u32,
    part: u32,
    ts_ms: Option<i64>,
    lines: Vec<String>,
}

impl Kept {
    /// Whether both are pieces of one dump: each boot counts its dumps anew.
    fn goes_with(&self, other: &Self) -> bool {
        let near = match (self.ts_ms, other.ts_ms) {
            (Some(one), Some(other)) => one.abs_diff(other) <= ONE_DUMP_MS,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        near && (&self.store, self.number) == (&other.store, other.number)
    }
}

fn dumps(host: &Host, names: &[String], unread: &mut Vec<String>) -> Vec<CrashDump> {
    let mut kept = Vec::new();
    for (name, store) in names.iter().filter_map(|name| Some((name, store_of(name)?))) {
        let path = format!("{PSTORE}/{name}");
        match host.text(&path) {
            Ok(text) => match piece(&text) {
                Some(Piece { reason, number, part, lines }) => kept.push(Kept {
                    store: store.to_owned(),
                    reason: reason.to_owned(),
                    number,
                    part,
                    ts_ms: host.modified_ms(&path).ok(),
                    lines: lines.into_iter().map(shortened).collect(),
                }),
                None => unread.push(format!("{path}: is no piece of a kernel's log")),
            },
            Err(error) => unread.push(error.reason()),
        }
    }
    kept.sort_by_key(|piece| piece.ts_ms);
    let mut dumps: Vec<Vec<Kept>> = Vec::new();
    for piece in kept {
        match dumps.iter_mut().find(|dump| dump.last().is_some_and(|last| last.goes_with(&piece))) {
            Some(dump) => dump.push(piece),
            None => dumps.push(vec![piece]),
        }
    }
    last(dumps.into_iter().filter_map(joined).collect(), MOST_DUMPS)
}

/// The pieces of one dump, in the order of their lines.
fn joined(mut pieces: Vec<Kept>) -> Option<CrashDump> {
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.part));
    let ts_ms = pieces.iter().filter_map(|piece| piece.ts_ms).max();
    let Kept { store, reason, .. } = pieces.first()?;
    let (store, reason) = (store.clone(), reason.clone());
    let lines: Vec<String> = pieces.into_iter().flat_map(|piece| piece.lines).collect();
    Some(CrashDump { store, reason, ts_ms, lines: last(lines, MOST_LINES) })
}

fn last<T>(mut all: Vec<T>, most: usize) -> Vec<T> {
    all.split_off(all.len().saturating_sub(most))
}

/// Reads a piece: its first line, then lines with level and time before them, the first of which may be cut.
fn piece(text: &str) -> Option<Piece<'_>> {
    let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (reason, rest_of_head) = head.trim().split_once('#')?;
    let (number, part) = rest_of_head.split_once(" Part")?;
    let plain = !reason.is_empty() && reason.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (number, part) = (number.parse().ok()?, part.parse().ok()?);
    let lines = rest.lines().map(message).filter(|line| !line.is_empty()).collect();
    plain.then_some(Piece { reason, number, part, lines })
}

/// A line of the log without `<4>` and `[   12.345678]`.
fn message(line: &str) -> &str {
    let after = |line: &'_ str, open: char, close: char| -> Option<usize> {
        let inner = line.strip_prefix(open)?;
        let end = inner.find(close)?;
        let number = inner.get(..end)?.trim();
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (is_number && !number.is_empty()).then_some(open.len_utf8() + end + close.len_utf8())
    };
    let mut rest = line.trim();
    for (open, close) in [('<', '>'), ('[', ']')] {
        if let Some(length) = after(rest, open, close) {
            rest = rest.get(length..).unwrap_or_default().trim_start();
        }
    }
    rest
}

fn shortened(line: &str) -> String {
    line.chars().filter(|character| !character.is_control()).take(MOST_LINE_CHARS).collect()
}

/// Lines of a boot's log about errors that happened before it.
fn hardware_errors(lines: &[String]) -> Vec<String> {
    let telling = lines.iter().filter(|line| line.contains("[Hardware Error]"));
    last(telling.map(|line| shortened(line)).collect(), MOST_LINES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by hand in the form that fs/pstore/platform.c writes.
    const PART_1: &str = "Panic#1 Part1\n<4>[   41.204410]  </TASK>\n<0>[   41.205001] Kernel panic - not syncing: \
                          sysrq triggered crash\n<4>[   41.205450] CPU: 0 UID: 0 PID: 212 Comm: sh Not tainted\n";
    const PART_2: &str = "Panic#1 Part2\n.203100] RIP cut\n<6>[   41.200011] sysrq: Trigger a crash\n";

    fn host(files: &[(&str, &str)], kmsg: &str) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        let pstore = folder.path().join("sys/fs/pstore");
        std::fs::create_dir_all(&pstore).unwrap();
        std::fs::create_dir_all(folder.path().join("dev")).unwrap();
        std::fs::write(folder.path().join("dev/kmsg"), kmsg).unwrap();
        for (name, text) in files {
            std::fs::write(pstore.join(name), text).unwrap();
        }
        let host = Host::recorded(folder.path());
        (folder, host)
    }

    #[test]
    fn the_pieces_of_a_dump_are_put_in_order() {
        let files =
            [("dmesg-efi_pstore-170000000001001", PART_1), ("dmesg-efi_pstore-170000000002001", PART_2)];
        let (_folder, host) = host(&files, "");
        let LeftBehind { dumps, unread, .. } = collect(&host);
        let [dump] = dumps.as_slice() else { panic!("{dumps:?}") };
        assert_eq!((dump.store.as_str(), dump.reason.as_str()), ("efi_pstore", "Panic"));
        assert!(dump.ts_ms.is_some() && unread.is_empty(), "{unread:?}");
        assert_eq!(
            dump.lines,
            [
                ".203100] RIP cut",
                "sysrq: Trigger a crash",
                "</TASK>",
                "Kernel panic - not syncing: sysrq triggered crash",
                "CPU: 0 UID: 0 PID: 212 Comm: sh Not tainted",
            ]
        );
    }

    #[test]
    fn dumps_of_two_boots_are_two_and_both_go_once_they_are_told() {
        let files =
            [("dmesg-efi_pstore-1", PART_1), ("dmesg-efi_pstore-2", PART_2), ("dmesg-efi_pstore-3", PART_1)];
        let (folder, host) = host(&files, "");
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(1);
        let first = folder.path().join("sys/fs/pstore/dmesg-efi_pstore-1");
        std::fs::File::options().write(true).open(first).unwrap().set_modified(old).unwrap();
        let dumps = collect(&host).dumps;
        let lines: Vec<usize> = dumps.iter().map(|dump| dump.lines.len()).collect();
        assert_eq!((dumps[0].ts_ms, lines), (Some(3_600_000), vec![3, 5]));
        assert!(forget(&host).is_empty());
        assert!(collect(&host).dumps.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_told_and_other_files_are_left_alone() {
        let files = [("dmesg-erst-1", "\u{1}\u{2}garbage"), ("console-ramoops-0", "text")];
        let (folder, host) = host(&files, "");
        let left = collect(&host);
        assert!(left.dumps.is_empty());
        assert!(matches!(&left.unread[..], [why] if why.contains("dmesg-erst-1")), "{:?}", left.unread);
        std::fs::remove_dir_all(folder.path().join("sys/fs/pstore")).unwrap();
        assert_eq!(collect(&host).unread.len(), 1, "nothing was looked at");
    }

    #[test]
    fn records_of_the_firmware_and_of_machine_check_banks_are_found() {
        let kmsg = "6,1,100,-;ACPI: Early table checksum verification disabled\n\
                    3,2,200,-;BERT: [Hardware Error]: Skipped 1 error records\n\
                    0,3,300,-;mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 5: be00000000800400\n SUBSYSTEM=cpu\n";
        let (_folder, host) = host(&[], kmsg);
        assert_eq!(
            collect(&host).hardware_errors,
            [
                "BERT: [Hardware Error]: Skipped 1 error records",
                "mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 5: be00000000800400",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_of_a_store_panics(text in ".{0,300}", name in "dmesg-[a-z_-]{0,20}[0-9]{0,5}") {
            let (_folder, host) = host(&[(&name, &text)], "");
            collect(&host);
        }
    }
}
