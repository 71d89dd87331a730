//! The index that depmod made: which module drives a device, and what it needs before and after it. Pure.
//!
//! Compared as kmod does: `-` and `_` are the same, and patterns are those of fnmatch(3) without paths.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What `modules.alias`, `modules.dep` and `modules.softdep` say together.
#[derive(Debug, Default)]
pub(super) struct ModuleIndex {
    text: String,
    /// Pattern and module, as places in `text`.
    aliases: Vec<(Range<usize>, Range<usize>)>,
    modules: BTreeMap<String, Module>,
}

#[derive(Debug, Default)]
struct Module {
    /// Relative to the folder of the index.
    file: String,
    /// Names of all modules it needs, the one to load first last.
    needs: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

/// A module to load: its name and its file, relative to the folder of the index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step<'a> {
    pub(super) name: &'a str,
    pub(super) file: &'a str,
}

impl ModuleIndex {
    /// Reads the three files of the index; lines that say nothing known are left out.
    pub(super) fn parse(aliases: String, dep: &str, softdep: &str) -> Self {
        let mut index = Self { text: aliases, ..Self::default() };
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_ascii_whitespace().map(name_of).collect();
            let module = Module { file: file.to_owned(), needs, ..Module::default() };
            index.modules.insert(name_of(file), module);
        }
        for line in softdep.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("softdep"), Some(name)) = (words.next(), words.next()) else { continue };
            let Some(module) = index.modules.get_mut(&normalised(name)) else { continue };
            let mut list = None;
            for word in words {
                match (word, list) {
                    ("pre:", _) => list = Some(true),
                    ("post:", _) => list = Some(false),
                    (name, Some(true)) => module.before.push(normalised(name)),
                    (name, Some(false)) => module.after.push(normalised(name)),
                    (_, None) => {}
                }
            }
        }
        let mut begin = 0;
        for line in index.text.split_inclusive('\n') {
            let place = |word: &str| {
                let at = begin + (word.as_ptr().addr() - line.as_ptr().addr());
                at..at + word.len()
            };
            // a pattern has no spaces
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                index.aliases.push((place(pattern), place(module)));
            }
            begin += line.len();
        }
        index
    }

    /// Names of the modules that drive a device with this modalias.
    pub(super) fn for_modalias<'a>(&'a self, modalias: &str) -> BTreeSet<&'a str> {
        let part = |place: &Range<usize>| self.text.get(place.clone()).unwrap_or_default();
        self.aliases
            .iter()
            .filter(|(pattern, _)| matches(part(pattern).as_bytes(), modalias.as_bytes()))
            .map(|(_, module)| part(module))
            .collect()
    }

    /// What to load for this module, in order; nothing for one that is built in or unknown.
    pub(super) fn steps(&self, name: &str) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        self.add_steps(&normalised(name), &mut BTreeSet::new(), &mut steps);
        steps
    }

    fn add_steps<'a>(&'a self, name: &str, seen: &mut BTreeSet<String>, steps: &mut Vec<Step<'a>>) {
        let Some((name, module)) = self.modules.get_key_value(name) else { return };
        // soft dependencies may go in circles
        if !seen.insert(name.clone()) {
            return;
        }
        for other in module.before.iter().chain(module.needs.iter().rev()) {
            self.add_steps(other, seen, steps);
        }
        steps.push(Step { name, file: &module.file });
        for other in &module.after {
            self.add_steps(other, seen, steps);
        }
    }
}

/// `kernel/drivers/net/foo-bar.ko` → `foo_bar`.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normalised(base.split_once('.').map_or(base, |(name, _)| name))
}

/// A module's name as the kernel has it.
pub(super) fn normalised(name: &str) -> String {
    name.replace('-', "_")
}

fn same(one: u8, other: u8) -> bool {
    let plain = |byte| if byte == b'-' { b'_' } else { byte };
    plain(one) == plain(other)
}

/// fnmatch(3) with `*`, `?` and `[…]`. A star that fits too little is given one byte more, the last one first: that
/// is enough, and never takes longer than pattern times text.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    loop {
        let step = match (pattern.get(at), text.get(read)) {
            (None, None) => return true,
            (Some(b'*'), _) if at + 1 == pattern.len() => return true,
            (Some(b'*'), _) => {
                star = Some((at + 1, read));
                at += 1;
                continue;
            }
            (Some(b'?'), Some(_)) => Some(1),
            (Some(b'['), Some(byte)) => bracket(pattern.get(at..).unwrap_or_default(), *byte),
            (Some(wanted), Some(byte)) if same(*wanted, *byte) => Some(1),
            (Some(_) | None, _) => None,
        };
        if let Some(step) = step {
            at += step;
            read += 1;
        } else {
            let Some((after, begin)) = star.filter(|(_, begin)| *begin < text.len()) else { return false };
            star = Some((after, begin + 1));
            (at, read) = (after, begin + 1);
        }
    }
}

/// Length of the `[…]` that the pattern begins with, if the byte is in it.
fn bracket(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let mut inside = pattern.get(1..end)?;
    let mut found = false;
    while let Some((first, rest)) = inside.split_first() {
        if let [b'-', last, more @ ..] = rest {
            found |= (*first..=*last).contains(&byte);
            inside = more;
        } else {
            found |= *first == byte;
            inside = rest;
        }
    }
    found.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index() -> ModuleIndex {
        ModuleIndex::parse(
            "# Aliases extracted from modules themselves.\n\
             alias virtio:d00000001v* virtio_net\n\
             alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169\n\
             alias usb:v1645p0007d01[0-2]*dc*dsc*dp*ic*isc*ip*in* usb_storage\n\
             alias platform:dmi-ipmi-si ipmi_si\nalias broken\n"
                .to_owned(),
            "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n\
             kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\nkernel/net/core/failover.ko:\n\
             kernel/drivers/net/r8169.ko: kernel/drivers/net/mdio-bus.ko\nkernel/drivers/net/mdio-bus.ko:\n\
             kernel/drivers/net/realtek.ko: kernel/drivers/net/mdio-bus.ko\n\
             kernel/char/ipmi/ipmi_msghandler.ko:\nkernel/char/ipmi/ipmi_devintf.ko: kernel/char/ipmi/ipmi_msghandler.ko\n",
            "# Soft dependencies\nsoftdep r8169 pre: realtek not-there\nsoftdep ipmi_msghandler post: ipmi_devintf\n\
             softdep realtek pre: r8169\n",
        )
    }

    fn names<'a>(index: &'a ModuleIndex, name: &str) -> Vec<&'a str> {
        index.steps(name).into_iter().map(|step| step.name).collect()
    }

    #[test]
    fn a_device_finds_its_driver() {
        let index = index();
        let driver = |modalias| index.for_modalias(modalias).into_iter().collect::<Vec<_>>();
        assert_eq!(driver("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(driver("pci:v000010ECd00008168sv00001043sd0000859Ebc02sc00i00"), ["r8169"]);
        assert_eq!(driver("usb:v1645p0007d0111dc00dsc00dp00ic08isc06ip50in00"), ["usb_storage"]);
        assert_eq!(driver("platform:dmi_ipmi_si"), ["ipmi_si"]);
        for stranger in ["virtio:d00000002v00001AF4", "usb:v1645p0007d0131dc00", "", "alias"] {
            assert!(index.for_modalias(stranger).is_empty(), "{stranger}");
        }
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let index = index();
        assert_eq!(names(&index, "virtio-net"), ["failover", "net_failover", "virtio_net"]);
        assert_eq!(
            index.steps("mdio_bus"),
            [Step { name: "mdio_bus", file: "kernel/drivers/net/mdio-bus.ko" }]
        );
        // a soft dependency in a circle ends
        assert_eq!(names(&index, "r8169"), ["mdio_bus", "realtek", "r8169"]);
        assert_eq!(names(&index, "ipmi_msghandler"), ["ipmi_msghandler", "ipmi_devintf"]);
        assert!(names(&index, "built_in").is_empty());
    }

    #[test]
    fn patterns_are_those_of_fnmatch() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("a*", "a"),
            ("a*b*c", "aXbXbXc"),
            ("a?c", "abc"),
            ("[0-3A]x", "2x"),
            ("[0-3A]x", "Ax"),
            ("*:in*", "usb:in01"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a*b", "ac"),
            ("a?", "a"),
            ("[0-3]", "4"),
            ("[0-3", "0"),
            ("a*bc", "abcd"),
        ] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_with_holes(text in "[a-z0-9:]{0,12}", cut in 0_usize..12, length in 0_usize..6) {
            let cut = cut.min(text.len());
            let end = (cut + length).min(text.len());
            let pattern = format!("{}*{}", &text[..cut], &text[end..]);
            prop_assert!(matches(pattern.as_bytes(), text.as_bytes()));
            let marked = format!("{pattern}!");
            prop_assert!(!matches(marked.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_pattern_and_no_text_is_too_much(pattern: Vec<u8>, text: Vec<u8>) {
            let _ = matches(&pattern, &text);
        }
    }
}
