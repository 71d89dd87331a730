//! The name servers of all interfaces, in one `/etc/resolv.conf`.
//!
//! Owns that file. Refuses more servers than a C library asks.

#![expect(clippy::disallowed_methods, reason = "writes the name servers")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// resolv.conf(5): MAXNS.
const MOST_SERVERS: usize = 3;

/// Where name servers were learnt, and so what replaces them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The settings.
    Settings(String),
    /// DHCP on this interface.
    Dhcp(String),
    /// DHCPv6 on this interface.
    Dhcp6(String),
    /// Routers on this interface.
    Router(String),
}

/// What one source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) servers: Vec<IpAddr>,
    pub(super) domain: Option<String>,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Resolver {
    file: PathBuf,
    known: BTreeMap<Source, Names>,
}

impl Resolver {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, known: BTreeMap::new() }
    }

    /// Takes what a source says now, instead of what it said before, and writes the file if that changes it.
    pub(super) fn learn(&mut self, source: Source, names: Names) -> std::io::Result<()> {
        let before = self.text();
        if names == Names::default() {
            self.known.remove(&source);
        } else {
            self.known.insert(source, names);
        }
        let text = self.text();
        if text == before { Ok(()) } else { std::fs::write(&self.file, text) }
    }

    fn text(&self) -> String {
        let mut servers: Vec<IpAddr> = Vec::new();
        for server in self.known.values().flat_map(|names| &names.servers) {
            if !servers.contains(server) {
                servers.push(*server);
            }
        }
        let domain = self.known.values().find_map(|names| names.domain.as_ref());
        let domain = domain.map(|domain| format!("search {domain}\n"));
        let servers = servers.iter().take(MOST_SERVERS).map(|server| format!("nameserver {server}\n"));
        domain.into_iter().chain(servers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_all_sources_stand_in_one_file_and_go_with_their_source() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let mut resolver = Resolver::new(file.clone());
        let names = |servers: &[&str], domain: Option<&str>| Names {
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            domain: domain.map(str::to_owned),
        };
        let eth0 = || "eth0".to_owned();
        resolver.learn(Source::Dhcp6(eth0()), names(&["fd00::53", "10.0.0.1"], None)).unwrap();
        resolver.learn(Source::Dhcp(eth0()), names(&["10.0.0.1"], Some("lab.example"))).unwrap();
        let read = || std::fs::read_to_string(&file).unwrap();
        assert_eq!(read(), "search lab.example\nnameserver 10.0.0.1\nnameserver fd00::53\n");
        resolver.learn(Source::Dhcp(eth0()), Names::default()).unwrap();
        assert_eq!(read(), "nameserver fd00::53\nnameserver 10.0.0.1\n");
        resolver.learn(Source::Settings(eth0()), names(&["::1", "::2", "::3", "::4"], None)).unwrap();
        assert_eq!(read(), "nameserver ::1\nnameserver ::2\nnameserver ::3\n");
    }
}
