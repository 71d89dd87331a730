//! The dashboard with a thousand machines.

use vetting_protocol::ids::HostId;
use vetting_protocol::profile::ProfileName;

use super::web::Browser;
use super::*;
use crate::store::{StoreError, hosts, runs};

const MACHINES: u32 = 1_000;

/// A thousand machines, each with two runs.
async fn many(lab: &Lab) {
    let made: Result<(), StoreError> = lab
        .server
        .driver
        .store
        .write(|connection| {
            for number in 0..MACHINES {
                let [_, high, middle, low] = number.to_be_bytes();
                let values = hosts::HostValues {
                    name: format!("fleet-{number:04}"),
                    mac: format!("52:54:00:{high:02x}:{middle:02x}:{low:02x}").parse().unwrap(),
                    wol_broadcast_ip: Ipv4Addr::BROADCAST,
                    wol_port: 9,
                    expected_spec_yaml: SPEC.to_owned(),
                    notes: String::new(),
                };
                let host = hosts::insert(connection, &values, START_MS)?;
                two_runs(connection, host)?;
            }
            Ok(())
        })
        .await;
    made.unwrap();
}

fn two_runs(connection: &crate::store::Connection, host: HostId) -> Result<(), StoreError> {
    let values = runs::RunValues {
        host_id: host,
        profile: ProfileName::Quick,
        non_destructive: false,
        override_flags: runs::OverrideFlags::NONE,
        next_boot_target: BootTarget::Linux,
    };
    let first = runs::create(connection, &values, START_MS)?;
    let over = runs::RunChange::to(vetting_protocol::run::RunState::Aborted, START_MS);
    runs::set_state(connection, first, &over)?;
    runs::create(connection, &values, START_MS)?;
    Ok(())
}

#[tokio::test]
async fn a_dashboard_of_a_thousand_machines_costs_no_more_than_their_list() {
    let lab = Lab::open().await;
    lab.add_user("alice", "viewer").await;
    many(&lab).await;
    let mut browser = Browser::of(&lab);
    browser.log_in("alice").await;
    let steady = Clock::system();
    let mut took_ms = [i64::MAX; 2];
    for _ in 0..3 {
        let begun_ms = steady.steady_ms();
        let page = browser.get("/").await;
        took_ms[0] = took_ms[0].min(steady.steady_ms() - begun_ms);
        assert_eq!(page.text.matches("<li class=\"tile").count(), MACHINES as usize);
        let begun_ms = steady.steady_ms();
        let list: Vec<Value> = good(lab.operator(Method::GET, "hosts")).await;
        took_ms[1] = took_ms[1].min(steady.steady_ms() - begun_ms);
        assert_eq!(list.len(), MACHINES as usize);
    }
    // a ratio: the machine's speed and the build's profile are in both
    println!(
        "dashboard of {MACHINES} machines: {} ms, their list by the API: {} ms, ratio {:.2}",
        took_ms[0],
        took_ms[1],
        took_ms[0] as f64 / took_ms[1].max(1) as f64
    );
}
