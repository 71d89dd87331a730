//! Lists of CPUs as the kernel writes them (Documentation/admin-guide/kernel-parameters, "cpu lists"): `0-3,8`.

/// Most CPUs that a list may name: the kernel's own limit (`NR_CPUS`).
const MOST: u32 = 8192;

/// The CPUs, in the list's order; `None` where it is no list. An empty text is a list of none.
pub(super) fn parse(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if last < first || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_and_single_ones_are_read_and_nonsense_is_not() {
        assert_eq!(parse("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse("5"), Some(vec![5]));
        assert_eq!(parse("\n"), Some(Vec::new()));
        for wrong in ["3-0", "a", "0,,1", "0-4294967295", "0-", "-1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9,\\- a]{0,20}") {
            let _ = parse(&text);
        }
    }
}
