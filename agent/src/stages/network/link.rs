//! One interface as it stands: whether it can be tested and on which way, its link against what it was and could be, and
//! its error counters.

use std::net::SocketAddr;

use vetting_protocol::inventory::Nic;
use vetting_protocol::plan::ExpectedLinks;

use crate::counterpart::Way;
use crate::host::Host;
use crate::sensors::network::ERRORS;
use crate::stages::StageContext;
use crate::tools::ethtool;
use crate::tools::ip::Interface;

/// Drivers of virtual machines: there is no link that would have a speed.
const VIRTUAL: [&str; 4] = ["virtio_net", "vmxnet3", "xen_netfront", "hv_netvsc"];

/// What became of an interface at the first look.
#[derive(Debug)]
pub(in crate::stages) enum Look {
    /// It is not as it should be.
    Fault(String),
    /// Nobody expects it to be connected.
    LeftOut(String),
    /// It is connected, and cannot be tested.
    Untested(String),
    /// It can be tested.
    Ready(Ready),
}

/// An interface that can be tested.
#[derive(Debug)]
pub(in crate::stages) struct Ready {
    /// Its name.
    pub(in crate::stages) nic: String,
    /// An address of it, or of a VLAN on it, at which the coordinator answers.
    pub(super) way: Way,
    /// Absent where its driver does not say.
    pub(super) speed_mbps: Option<u32>,
    /// Of a virtual machine.
    pub(super) is_virtual: bool,
}

impl Look {
    /// Looks. `server` are the addresses of the other end, where there is one.
    pub(super) fn at(
        context: &StageContext<'_>,
        nic: &Nic,
        interfaces: &[Interface],
        server: Option<&[SocketAddr]>,
        links: ExpectedLinks,
    ) -> Self {
        let name = &nic.name;
        let folder = format!("/sys/class/net/{name}");
        if !context.host.exists(&folder) {
            return Self::Fault(format!("{name} is gone: it was there when the run began"));
        }
        let connected = context.host.flag(&format!("{folder}/carrier")).unwrap_or(false);
        if !connected {
            return match (nic.link, links) {
                (Some(true), _) => Self::Fault(format!("{name} lost its link since the run began")),
                (_, ExpectedLinks::All) => {
                    Self::Fault(format!("{name} has no link, and all should have one"))
                }
                (_, ExpectedLinks::Connected) => Self::LeftOut("it has no link".to_owned()),
            };
        }
        let speed_mbps =
            context.host.number(&format!("{folder}/speed")).ok().filter(|speed: &u32| *speed > 0);
        measure_link(context, name, speed_mbps);
        // what no speed is known of says `half`, too
        let is_half = context.host.text(&format!("{folder}/duplex")).is_ok_and(|duplex| duplex == "half");
        if is_half && speed_mbps.is_some() {
            return Self::Fault(format!("{name}: its link is half duplex"));
        }
        if let (Some(first), Some(now)) = (nic.speed_mbps, speed_mbps)
            && now < first
        {
            return Self::Fault(format!(
                "{name}: its link fell from {first} to {now} Mbit/s since the run began"
            ));
        }
        match way(context, name, interfaces, server) {
            Ok(way) => {
                let is_virtual = nic.driver.as_deref().is_some_and(|driver| VIRTUAL.contains(&driver));
                Self::Ready(Ready { nic: name.clone(), way, speed_mbps, is_virtual })
            }
            Err(reason) => Self::Untested(reason),
        }
    }
}

/// The way over an interface on which the other end answers.
fn way(
    context: &StageContext<'_>,
    name: &str,
    interfaces: &[Interface],
    server: Option<&[SocketAddr]>,
) -> Result<Way, String> {
    let itself = interfaces.iter().find(|interface| interface.name == name);
    if let Some(master) = itself.and_then(|interface| interface.master.as_ref()) {
        return Err(format!("{name} is a part of {master}, so nothing can be sent over it alone"));
    }
    let on_it = |interface: &&Interface| interface.name == name || interface.link.as_deref() == Some(name);
    let ways: Vec<Way> = interfaces
        .iter()
        .filter(on_it)
        .flat_map(|interface| {
            let way = |source: &std::net::IpAddr| Way { interface: interface.name.clone(), source: *source };
            interface.addresses.iter().map(way).collect::<Vec<Way>>()
        })
        .collect();
    if ways.is_empty() {
        return Err(format!(
            "{name} has a link, but no address, so it was not tested: is there a DHCP server?"
        ));
    }
    let server = server.unwrap_or_default();
    let answered = ways.into_iter().find(|way| {
        let reachable = server.iter().find(|address| address.is_ipv4() == way.source.is_ipv4());
        reachable.is_some_and(|address| context.counterpart.answers(way, *address))
    });
    answered.ok_or_else(|| format!("{name}: the coordinator does not answer over it, so it was not tested"))
}

/// Its speed, and that as a part of what both ends offer each other.
fn measure_link(context: &StageContext<'_>, name: &str, speed_mbps: Option<u32>) {
    let Some(speed) = speed_mbps else { return };
    context.measure("link", format!("{name}/speed"), Some(f64::from(speed)), "mbps");
    // a driver that cannot be asked tells of no fault
    let fastest = context
        .tools
        .run(&ethtool::link_invocation(name), &context.cancel, &mut |_, _| {})
        .and_then(|finished| ethtool::parse_fastest_common(&finished));
    if let Ok(Some(fastest)) = fastest {
        let part = f64::from(speed) * 100.0 / f64::from(fastest);
        context.measure("link", format!("{name}/part_of_offered_speed"), Some(part), "percent");
    }
}

/// The error counters of an interface.
#[derive(Debug)]
pub(super) struct Counters {
    nic: String,
    /// By name; `None` where one does not answer.
    counts: Vec<(&'static str, Option<u64>)>,
}

impl Counters {
    pub(super) fn read(host: &Host, nic: &str) -> Self {
        let folder = format!("/sys/class/net/{nic}");
        let errors = ERRORS.map(|name| (name, host.number(&format!("{folder}/statistics/{name}")).ok()));
        let changes = ("carrier_changes", host.number(&format!("{folder}/carrier_changes")).ok());
        Self { nic: nic.to_owned(), counts: errors.into_iter().chain([changes]).collect() }
    }

    /// Tells what is new; without a value where it is not known, so that no rule takes it for a good one.
    pub(super) fn measure_since(&self, before: &Self, context: &StageContext<'_>) {
        for ((name, now), (_, before)) in self.counts.iter().zip(&before.counts) {
            let new = now.zip(*before).map(|(now, before)| now.saturating_sub(before) as f64);
            context.measure("nic_load", format!("{}/{name}", self.nic), new, "count");
        }
    }
}
