//! Who is at the other end of each cable, as switches tell by LLDP while the links are tested.
//!
//! Only for the record: a switch that says nothing is no fault.

use std::time::Duration;

use vetting_protocol::agent_api::{EventLevel, Record};

use crate::clock;
use crate::lldp::{Listener, Neighbour};
use crate::stages::StageContext;
use crate::tools::ip;

/// Switches speak every 30 s (IEEE 802.1AB, msgTxInterval); the tests take a part of that.
const PATIENCE: Duration = Duration::from_secs(31);
/// How often is looked whether all were heard.
const LOOK: Duration = Duration::from_millis(200);

/// Listens on these interfaces.
pub(super) struct Neighbours<'n, 'a> {
    context: &'n StageContext<'a>,
    /// With their index.
    interfaces: Vec<(&'n str, u32)>,
    listener: Option<Listener>,
}

impl<'n, 'a> Neighbours<'n, 'a> {
    /// Begins. A recorded machine has no cables.
    pub(super) fn listen(context: &'n StageContext<'a>, interfaces: impl Iterator<Item = &'n str>) -> Self {
        let index = |name: &str| context.host.number(&format!("/sys/class/net/{name}/ifindex")).ok();
        let interfaces: Vec<(&str, u32)> = interfaces.filter_map(|name| Some((name, index(name)?))).collect();
        let listener = context.host.is_live().then(Listener::start).and_then(Result::ok);
        let neighbours = Self { context, interfaces, listener };
        neighbours.take_groups(true);
        neighbours
    }

    fn take_groups(&self, on: bool) {
        if self.listener.is_none() {
            return;
        }
        for (name, _) in &self.interfaces {
            // without it nothing is heard there, and that is no fault
            let _ = self.context.tools.run(
                &ip::all_groups_invocation(name, on),
                &self.context.cancel,
                &mut |_, _| {},
            );
        }
    }

    /// Who was heard by the end of `patience`, or of a switch's own interval if that is shorter; each is an event, too.
    pub(super) fn heard(self, patience: Duration) -> Vec<(&'n str, Neighbour)> {
        let Some(listener) = &self.listener else { return Vec::new() };
        let begin = clock::monotonic();
        let all = || self.interfaces.iter().all(|(_, index)| listener.neighbour(*index).is_some());
        while !all() && begin.elapsed() < patience.min(PATIENCE) && !self.context.cancel.is_raised() {
            std::thread::sleep(LOOK);
        }
        let heard = |(name, index): &(&'n str, u32)| Some((*name, listener.neighbour(*index)?));
        let found: Vec<(&str, Neighbour)> = self.interfaces.iter().filter_map(heard).collect();
        self.take_groups(false);
        for (name, neighbour) in &found {
            self.context.reporter.record(Record::Event {
                level: EventLevel::Info,
                kind: "lldp_neighbour".to_owned(),
                message: format!("{name} is at {neighbour}"),
                ts_ms: clock::now_ms(),
            });
        }
        found
    }
}
