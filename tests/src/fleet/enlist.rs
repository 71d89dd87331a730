//! A fleet's machines in the coordinator's books: each registered, with a run that waits for it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{HostCreate, RunCreate};
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::RunPlace;

use super::Operator;

/// Requests under way at once.
const AT_ONCE: usize = 16;

/// A machine that may boot.
#[derive(Debug, Clone)]
pub struct Enlisted {
    /// Counts the fleet's machines from 0.
    pub number: u32,
    /// The card it boots from.
    pub mac: String,
    /// The run that waits for it.
    pub run: RunId,
}

/// Registers `count` machines with this spec and starts a quick run of each.
pub async fn enlist(operator: &Operator, count: u32, spec_yaml: &str) -> anyhow::Result<Vec<Enlisted>> {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (operator, at_once, spec_yaml) = (operator.clone(), Arc::clone(&at_once), spec_yaml.to_owned());
        tasks.spawn(async move {
            let _permit = at_once.acquire().await?;
            one(&operator, number, spec_yaml).await.with_context(|| format!("machine {number}"))
        });
    }
    let mut enlisted = Vec::new();
    while let Some(done) = tasks.join_next().await {
        enlisted.push(done??);
    }
    enlisted.sort_by_key(|machine| machine.number);
    Ok(enlisted)
}

async fn one(operator: &Operator, number: u32, expected_spec_yaml: String) -> anyhow::Result<Enlisted> {
    let name = format!("fleet-{number:05}");
    let [_, high, middle, low] = number.to_be_bytes();
    let mac = format!("52:54:02:{high:02x}:{middle:02x}:{low:02x}");
    let host = HostCreate {
        name: name.clone(),
        mac: mac.clone(),
        // nobody listens for magic packets; they must not leave this box
        wol_broadcast_ip: Some(Ipv4Addr::LOCALHOST),
        wol_port: None,
        expected_spec_yaml,
        notes: String::new(),
        serial_console: None,
    };
    operator.register(&host).await?;
    let order = RunCreate {
        host: name,
        profile: ProfileName::Quick,
        non_destructive: false,
        wipe: false,
        erase: false,
        place: RunPlace::LiveImage,
        after_pass: None,
        after_fail: None,
    };
    Ok(Enlisted { number, mac, run: operator.start(&order).await?.id })
}
