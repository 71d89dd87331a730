//! A run without a coordinator: the same pipeline, judged here by the judge that the coordinator uses, its results on
//! the stick that the machine started from.
//!
//! [`medium`] finds and mounts the stick, [`papers`] reads what is on it, [`menu`] asks the person at the console, [`link`] takes the coordinator's
//! place in the pipeline, [`results`] stores what comes of it and [`shelf`] is where.

pub mod keys;
pub mod link;
pub mod medium;
pub mod menu;
pub mod papers;
pub mod results;
pub mod shelf;

use vetting_protocol::ids::MacAddress;

use crate::host::Host;
use crate::inventory;

/// What a machine is called that tells nothing of itself.
const NAMELESS: &str = "unknown-machine";

/// The name of a machine in results: its serial number, else that of its board, its UUID, or a network card's address.
pub fn machine_name(host: &Host, system_uuid: Option<&str>, macs: &[MacAddress]) -> String {
    let dmi = |name: &str| {
        let text = host.text(&format!("/sys/class/dmi/id/{name}")).ok()?;
        (!inventory::is_placeholder(&text)).then_some(text)
    };
    let name = dmi("product_serial")
        .or_else(|| dmi("board_serial"))
        .or_else(|| dmi("chassis_serial"))
        .or_else(|| system_uuid.filter(|uuid| !inventory::is_placeholder(uuid)).map(str::to_owned))
        .or_else(|| macs.first().map(|mac| mac.to_string().replace(':', "")));
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let name: String = name.unwrap_or_default().chars().map(plain).take(40).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { NAMELESS.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_by_what_tells_it_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let dmi = folder.path().join("sys/class/dmi/id");
        std::fs::create_dir_all(&dmi).unwrap();
        let host = Host::recorded(folder.path());
        let mac: MacAddress = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(machine_name(&host, None, &[]), NAMELESS);
        assert_eq!(machine_name(&host, None, &[mac]), "525400123456");
        assert_eq!(machine_name(&host, Some("4c4c4544-0042"), &[mac]), "4c4c4544-0042");
        std::fs::write(dmi.join("board_serial"), "../B 7/\n").unwrap();
        std::fs::write(dmi.join("product_serial"), "To Be Filled By O.E.M.\n").unwrap();
        assert_eq!(machine_name(&host, None, &[]), "B-7");
        std::fs::write(dmi.join("product_serial"), "SN42\n").unwrap();
        assert_eq!(machine_name(&host, None, &[]), "SN42");
    }
}
