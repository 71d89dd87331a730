//! Reads `vetting.yaml` of a stick, and names line and column of a mistake.

use vetting_protocol::stick::{Start, StickSettings};

use crate::yaml::{self, Mistake};

/// Reads the settings of a stick.
///
/// # Errors
/// The first mistake, with its place. Secrets of the file are not in it.
pub fn read(text: &str) -> Result<StickSettings, Mistake> {
    let settings: StickSettings = yaml::parse(
        text,
        "write at least `mode: auto`; what else it may hold is in the file of a new stick",
    )?;
    let at = |path: &str, what: &str| Mistake {
        line: yaml::line_of_key(text, path),
        column: 1,
        path: path.to_owned(),
        what: what.to_owned(),
    };
    if settings.start == Start::Auto && settings.profile.is_none() {
        return Err(at(
            "start",
            "nothing can start by itself without `profile`; add it, or write `start: ask`",
        ));
    }
    if settings.proxy.is_some() && settings.coordinator.is_none() {
        return Err(at(
            "proxy",
            "there is no `coordinator` to reach through it; add one, or remove the proxy",
        ));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vetting_protocol::profile::ProfileName;
    use vetting_protocol::stick::network::{Ipv4Method, Ipv6Method};
    use vetting_protocol::stick::{DEFAULT_TEXT, Mode};

    use super::*;

    const CA: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn full() -> String {
        format!(
            "mode: auto
coordinator:
  url: https://10.0.0.1:8443
  ca: {CA}
  enrolment_token: s3cr3t
profile: deep
wipe: true
start: auto
proxy: http://ann:pa55@proxy.example:3128
network:
  - interface: 52:54:00:12:34:56
    vlan: 42
    ipv4: {{address: 10.0.0.5/24, gateway: 10.0.0.1, dns: [10.0.0.1]}}
    ipv6: off
  - bond: {{mode: 802.3ad, interfaces: [eno1, eno2]}}
    ipv6: {{address: 2001:db8::5/64, gateway: 'fe80::1'}}
"
        )
    }

    #[test]
    fn a_file_that_says_everything_is_read_and_written_whole() {
        let settings = read(&full()).unwrap();
        assert_eq!((settings.profile, settings.wipe), (Some(ProfileName::Deep), true));
        assert_eq!(settings.coordinator.as_ref().unwrap().url.to_string(), "10.0.0.1:8443");
        let [first, second] = &*settings.network.interfaces else { panic!("{settings:?}") };
        assert_eq!((first.vlan.map(u16::from), &first.ipv6), (Some(42), &Ipv6Method::Off));
        assert!(matches!(first.ipv4, Ipv4Method::Static(_)));
        assert_eq!(second.bond.as_ref().unwrap().interfaces.len(), 2);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("pa55"));
        assert_eq!(read(&serde_yaml::to_string(&settings).unwrap()), Ok(settings));
    }

    #[test]
    fn the_file_of_a_new_stick_asks_for_nothing() {
        let settings = read(DEFAULT_TEXT).unwrap();
        assert_eq!((settings.mode, settings.start, settings.wipe), (Mode::Auto, Start::Ask, false));
        assert!(settings.coordinator.is_none() && settings.network.interfaces.is_empty());
    }

    /// Every key that the file of a new stick explains is one that is read.
    #[test]
    fn what_the_new_file_explains_can_be_uncommented() {
        let keys = [
            "coordinator:",
            "  url:",
            "  ca:",
            "  enrolment_token:",
            "proxy:",
            "network:",
            "  interface:",
            "  vlan:",
            "  ipv4:",
            "  ipv6:",
            "profile:",
            "wipe:",
            "start:",
        ];
        let mut seen_networks = 0;
        let text: String = DEFAULT_TEXT
            .lines()
            .map(|line| {
                let inner = line.strip_prefix("# ").unwrap_or_default();
                seen_networks += usize::from(inner.starts_with("network:"));
                if seen_networks < 2 && keys.iter().any(|key| inner.starts_with(key))
                    || keys[10..].iter().any(|key| inner.starts_with(key))
                {
                    format!("{inner}\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        let settings = read(&text).unwrap();
        assert_eq!(settings.network.interfaces.len(), 1);
        assert!(settings.coordinator.unwrap().enrolment_token.is_some() && settings.profile.is_some());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (from, to, line, what) in [
            ("mode: auto", "mode: onfline", 1, "unknown variant"),
            ("mode: auto", "moed: auto", 1, "unknown field `moed`"),
            ("  url: https://10.0.0.1:8443", "  url: https://10.0.0.1", 3, "HOST:PORT"),
            (CA, "sha256:12", 4, "64 hex digits"),
            ("profile: deep", "profile: deeep", 6, "unknown variant"),
            ("profile: deep\n", "", 7, "without `profile`"),
            ("wipe: true", "wipe: perhaps", 7, "boolean"),
            ("start: auto", "start:", 8, "expected `ask` or `auto`"),
            ("profile: deep", "profile:", 6, "has no value"),
            ("proxy: http://ann:pa55@", "proxy: ftp://ann:pa55@", 9, "HTTP proxy"),
            ("52:54:00:12:34:56", "52:54:00:12:34:5", 11, "MAC address"),
            ("vlan: 42", "vlan: 4095", 12, "1 to 4094"),
            ("10.0.0.5/24", "10.0.0.5", 13, "10.0.0.5/24"),
            ("gateway: 10.0.0.1,", "gateway: 10.0.1.1,", 13, "not in the network"),
            ("ipv6: off", "ipv6: of", 14, "auto, dhcp or off"),
            ("802.3ad", "802.3ae", 15, "`active-backup`"),
            ("eno1, eno2", "eno1, eno1", 15, "twice"),
        ] {
            assert!(full().contains(from), "{from}");
            let mistake = read(&full().replacen(from, to, 1)).unwrap_err();
            assert!(mistake.to_string().contains(what), "{to}: {mistake}");
            assert_eq!(mistake.line, line, "{to}: {mistake}");
            assert!(!mistake.to_string().contains("pa55"), "{mistake}");
        }
    }

    #[test]
    fn a_network_that_cannot_work_is_refused() {
        for (network, what) in [
            ("{ipv4: off, ipv6: off}", "both off"),
            ("{interface: eno1, bond: {mode: active-backup, interfaces: [eno2]}}", "not both"),
            ("[{ipv4: dhcp}, {interface: eno1}]", "each needs"),
            ("[{interface: eno1}, {interface: eno1}]", "described twice"),
            ("{bond: {mode: active-backup, interfaces: []}}", "no interface"),
            ("dhcp", "a mapping"),
            ("{interface: a/b}", "MAC address"),
        ] {
            let mistake = read(&format!("mode: auto\nnetwork: {network}\n")).unwrap_err();
            assert!(mistake.to_string().contains(what), "{network}: {mistake}");
            assert_eq!(mistake.line, 2, "{mistake}");
        }
        assert!(read("network: [{interface: eno1}, {interface: eno1, vlan: 2}]").is_ok());
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,120}", from in 0_usize..300, length in 0_usize..40) {
            let _ = read(&text);
            let full = full();
            let cut = full.chars().enumerate().filter(|(at, _)| !(from..from + length).contains(at));
            let _ = read(&cut.map(|(_, character)| character).collect::<String>());
        }
    }
}
