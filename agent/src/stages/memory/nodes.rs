//! How much memory each NUMA node is asked for: nearly all that Linux says it can give, shared out by what each has.

use std::path::PathBuf;

use crate::host::{Host, HostError};

const NODES: &str = "/sys/devices/system/node";
const ONLINE: &str = "/sys/devices/system/cpu/online";
const MIB: u64 = 1024 * 1024;
/// What is left for the agent and the kernel: 1 % of what is available or this, and never more than 4 %, so that more than
/// 95 % are tested.
const LEFT_BYTES: u64 = 256 * MIB;
/// Most of a node's own memory that is asked for, percent: the kernel needs some of each node.
const MOST_OF_NODE: u64 = 97;

/// What one node is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeShare {
    pub node: u32,
    /// Whether memory has to be bound to it: not where it is the only one.
    pub binds: bool,
    /// The CPUs that test it: its own, or all where it has none.
    pub cpus: Vec<u32>,
    pub bytes: u64,
}

/// What all are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares {
    pub total_bytes: u64,
    pub available_bytes: u64,
    /// What a worker leaves of it at least, whatever it was asked for.
    pub leave_bytes: u64,
    pub nodes: Vec<NodeShare>,
}

/// A node as it is.
struct Node {
    number: u32,
    cpus: Vec<u32>,
    /// Free, or page cache that can be dropped.
    free_bytes: u64,
}

impl Shares {
    pub(super) fn of(host: &Host) -> Result<Self, HostError> {
        let memory = host.meminfo()?;
        let online = cpus(host, ONLINE)?;
        let mut nodes = nodes(host, &online)?;
        if nodes.is_empty() {
            nodes.push(Node { number: 0, cpus: online, free_bytes: memory.available_bytes });
        }
        let left = (memory.available_bytes / 100).max(LEFT_BYTES).min(memory.available_bytes / 25);
        let budget = memory.available_bytes - left;
        let free: u64 = nodes.iter().map(|node| node.free_bytes).sum();
        let several = nodes.len() > 1;
        let share = |node: Node| {
            let part = u128::from(budget) * u128::from(node.free_bytes) / u128::from(free.max(1));
            let most = if several { node.free_bytes / 100 * MOST_OF_NODE } else { budget };
            let bytes = u64::try_from(part).unwrap_or(u64::MAX).min(most);
            NodeShare { node: node.number, binds: several, cpus: node.cpus, bytes }
        };
        Ok(Self {
            total_bytes: memory.total_bytes,
            available_bytes: memory.available_bytes,
            leave_bytes: left / 2,
            nodes: nodes.into_iter().map(share).collect(),
        })
    }
}

/// Nodes that have memory.
fn nodes(host: &Host, online: &[u32]) -> Result<Vec<Node>, HostError> {
    let names = match host.list(NODES) {
        Ok(names) => names,
        // a kernel without NUMA
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut nodes = Vec::new();
    for name in names {
        let Some(number) = name.strip_prefix("node").and_then(|digits| digits.parse().ok()) else { continue };
        let path = format!("{NODES}/{name}/meminfo");
        let text = host.text(&path)?;
        let bytes = |what: &str| node_bytes(&text, what);
        let free =
            bytes("MemFree").and_then(|free| Some(free + bytes("Active(file)")? + bytes("Inactive(file)")?));
        let free_bytes = free.ok_or_else(|| HostError::Unparsable {
            path: PathBuf::from(&path),
            found: text.chars().take(80).collect(),
            expected: "the memory of a NUMA node with MemFree, Active(file) and Inactive(file)",
        })?;
        if bytes("MemTotal").is_none_or(|total| total == 0) {
            continue;
        }
        let own = cpus(host, &format!("{NODES}/{name}/cpulist"))?;
        nodes.push(Node { number, cpus: if own.is_empty() { online.to_vec() } else { own }, free_bytes });
    }
    Ok(nodes)
}

/// `Node 0 MemFree:  123456 kB`.
fn node_bytes(text: &str, what: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once(what)?.1.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A list of CPUs as the kernel writes it; an empty one is none.
fn cpus(host: &Host, path: &str) -> Result<Vec<u32>, HostError> {
    let text = host.text(path)?;
    super::super::cpu_list::parse(&text).ok_or_else(|| HostError::Unparsable {
        path: PathBuf::from(path),
        found: text.chars().take(80).collect(),
        expected: "a list of CPUs such as 0-3,8",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::recorded(folder.path());
        (folder, host)
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal: 67108864 kB\nMemFree: 60000000 kB\nMemAvailable: 62914560 kB\n");
    const CPUS: (&str, &str) = ("sys/devices/system/cpu/online", "0-3\n");

    #[test]
    fn one_node_is_asked_for_more_than_95_percent_and_not_bound() {
        let (_folder, host) = machine(&[MEMINFO, CPUS]);
        let shares = Shares::of(&host).unwrap();
        let [node] = shares.nodes.as_slice() else { panic!("{shares:?}") };
        assert!(!node.binds && node.cpus == [0, 1, 2, 3]);
        let percent = node.bytes as f64 * 100.0 / shares.available_bytes as f64;
        assert!((95.5..99.5).contains(&percent), "{percent}");
        assert!(shares.leave_bytes > 0);
    }

    #[test]
    fn small_machines_too() {
        let (_folder, host) =
            machine(&[("proc/meminfo", "MemTotal: 900000 kB\nMemAvailable: 600000 kB\n"), CPUS]);
        let shares = Shares::of(&host).unwrap();
        assert!(shares.nodes[0].bytes as f64 >= 0.955 * shares.available_bytes as f64);
    }

    #[test]
    fn nodes_get_by_what_they_have_and_one_without_cpus_is_tested_by_all() {
        let (_folder, host) = machine(&[
            MEMINFO,
            CPUS,
            (
                "sys/devices/system/node/node0/meminfo",
                "Node 0 MemTotal: 33554432 kB\nNode 0 MemFree: 30000000 kB\nNode 0 Active(file): 1000000 kB\nNode 0 Inactive(file): 500000 kB\n",
            ),
            ("sys/devices/system/node/node0/cpulist", "0-3\n"),
            (
                "sys/devices/system/node/node1/meminfo",
                "Node 1 MemTotal: 33554432 kB\nNode 1 MemFree: 31500000 kB\nNode 1 Active(file): 0 kB\nNode 1 Inactive(file): 0 kB\n",
            ),
            ("sys/devices/system/node/node1/cpulist", "\n"),
            ("sys/devices/system/node/online", "0-1\n"),
        ]);
        let shares = Shares::of(&host).unwrap();
        let [one, two] = shares.nodes.as_slice() else { panic!("{shares:?}") };
        assert!(one.binds && two.binds && two.cpus == [0, 1, 2, 3]);
        assert_eq!(one.bytes, two.bytes);
        assert!(one.bytes <= 31_500_000 * 1024 / 100 * 97);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let node = ("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: many kB\n");
        let list = ("sys/devices/system/node/node0/cpulist", "0-3\n");
        for files in [&[CPUS][..], &[MEMINFO][..], &[MEMINFO, CPUS, node, list][..]] {
            let (_folder, host) = machine(files);
            assert!(Shares::of(&host).is_err(), "{files:?}");
        }
    }
}
