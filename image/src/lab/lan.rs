//! A local network of its own: namespaces on one bridge, as a lab with its servers and machines on one switch.
//!
//! Owns: namespaces, bridge and taps from [`Lan::new`] to the drop, and processes started in them. Refuses: the host's
//! own interfaces and any way out: nothing in here reaches another network. Takes root.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};

use super::LabError;
use crate::command::{CommandError, Tool};

/// Namespaces are called `vetting-PID-NUMBER-ROLE`.
const PREFIX: &str = "vetting-";
/// Each network uses this one: they are apart.
const NETWORK: [u8; 3] = [10, 77, 0];
/// The same with IPv6, a unique local network of 64 bits (RFC 4193).
const NETWORK_IPV6: [u16; 4] = [0xfd77, 0, 0, 0];
/// Networks of this process so far.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A local network. Dropping it deletes its namespaces; what runs in them must have been ended before.
#[derive(Debug)]
pub struct Lan {
    name: String,
    namespaces: Vec<String>,
}

/// One end of a cable for a machine: a tap in the namespace of the switch.
#[derive(Debug, Clone)]
pub struct Tap {
    /// Where QEMU must run.
    pub(super) namespace: String,
    /// The tap's name there.
    pub(super) name: String,
}

/// Somebody on the network: a namespace with one interface, `eth0`.
#[derive(Debug, Clone)]
pub struct Member {
    /// The namespace, for `ip netns exec`.
    pub namespace: String,
    /// Address of its `eth0`: IPv4 in a network of 24 bits, or IPv6 in one of 64.
    pub address: IpAddr,
}

/// A process on the network. Killed when dropped, and by the kernel when the thread that started it ends.
#[derive(Debug)]
pub struct Running(Child);

impl Lan {
    /// A switch with nobody on it. Networks that a killed process left behind are deleted.
    pub fn new() -> Result<Self, LabError> {
        delete_abandoned()?;
        let name = format!("{PREFIX}{}-{}", std::process::id(), NETWORKS.fetch_add(1, Ordering::Relaxed));
        let mut lan = Self { name, namespaces: Vec::new() };
        let switch = lan.namespace("lan")?;
        ip(&[
            "-n",
            &switch,
            "link",
            "add",
            "lan0",
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
        ])?;
        ip(&["-n", &switch, "link", "set", "lan0", "up"])?;
        Ok(lan)
    }

    /// Plugs in a namespace at `10.77.0.host`.
    pub fn member(&mut self, role: &str, host: u8) -> Result<Member, LabError> {
        let [a, b, c] = NETWORK;
        self.plug_in(role, host, Ipv4Addr::new(a, b, c, host).into())
    }

    /// Plugs in a namespace at `fd77::host`, without any IPv4 address.
    pub fn ipv6_member(&mut self, role: &str, host: u8) -> Result<Member, LabError> {
        let [a, b, c, d] = NETWORK_IPV6;
        self.plug_in(role, host, Ipv6Addr::new(a, b, c, d, 0, 0, 0, host.into()).into())
    }

    fn plug_in(&mut self, role: &str, host: u8, address: IpAddr) -> Result<Member, LabError> {
        let member = Member { namespace: self.namespace(role)?, address };
        let (switch, port) = (self.switch(), format!("port{host}"));
        let there = member.namespace.as_str();
        ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", there])?;
        ip(&["-n", &switch, "link", "set", &port, "master", "lan0", "up"])?;
        // nobody else is there to have the IPv6 address, so it is good at once
        let (prefixed, rest) = match address {
            IpAddr::V4(_) => (format!("{address}/24"), ["brd", "+"].as_slice()),
            IpAddr::V6(_) => (format!("{address}/64"), ["nodad"].as_slice()),
        };
        ip(&[["-n", there, "addr", "add", &prefixed, "dev", "eth0"].as_slice(), rest].concat())?;
        ip(&["-n", there, "link", "set", "eth0", "up"])?;
        Ok(member)
    }

    /// Plugs in a cable for a machine.
    pub fn tap(&self, number: u8) -> Result<Tap, LabError> {
        let tap = Tap { namespace: self.switch(), name: format!("tap{number}") };
        ip(&["-n", &tap.namespace, "tuntap", "add", "dev", &tap.name, "mode", "tap"])?;
        ip(&["-n", &tap.namespace, "link", "set", &tap.name, "master", "lan0", "up"])?;
        Ok(tap)
    }

    fn switch(&self) -> String {
        format!("{}-lan", self.name)
    }

    fn namespace(&mut self, role: &str) -> Result<String, LabError> {
        let name = format!("{}-{role}", self.name);
        ip(&["netns", "add", &name])?;
        self.namespaces.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in self.namespaces.drain(..).rev() {
            if let Err(error) = ip(&["netns", "del", &namespace]) {
                eprintln!("{namespace} is left behind: {error:?}");
            }
        }
    }
}

impl Member {
    /// Starts a program here; what it prints to standard error goes to `log`.
    pub fn start(&self, program: &str, arguments: &[&str], log: &Path) -> Result<Running, LabError> {
        let file = File::create(log).map_err(|source| LabError::File { path: log.to_owned(), source })?;
        let tool = inside(&self.namespace, program).args(arguments);
        let child = tool.spawn_guarded(file).map_err(|source| LabError::Network { source })?;
        Ok(Running(child))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // an error means that it has ended already
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A program in a namespace. `ip netns exec` becomes the program: same process id, same signals.
pub(super) fn inside(namespace: &str, program: &str) -> Tool {
    Tool::new("ip").args(["netns", "exec", namespace, program])
}

fn ip(arguments: &[&str]) -> Result<String, LabError> {
    Tool::new("ip").args(arguments).run_text().map_err(|source: CommandError| LabError::Network { source })
}

fn delete_abandoned() -> Result<(), LabError> {
    for line in ip(&["netns", "list"])?.lines() {
        let Some(namespace) = line.split_whitespace().next() else { continue };
        let owner = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(owner.to_string()).exists() {
            // another process may have been faster
            let _gone = ip(&["netns", "del", namespace]);
        }
    }
    Ok(())
}
