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
    every_machine_and_every_run_is_on_a_page(&browser).await;
    // a ratio: the machine's speed and the build's profile are in both
    println!(
        "dashboard of {MACHINES} machines: {} ms, their list by the API: {} ms, ratio {:.2}",
        took_ms[0],
        took_ms[1],
        took_ms[0] as f64 / took_ms[1].max(1) as f64
    );
}

/// The address behind a link with these words.
fn linked<'a>(page: &'a str, words: &str) -> Option<&'a str> {
    let (before, _) = page.split_once(&format!("\">{words}</a>"))?;
    before.rsplit('"').next()
}

async fn every_machine_and_every_run_is_on_a_page(browser: &Browser) {
    // a filter goes along
    for (first, row, links, rows) in [
        ("/hosts", "<a href=\"/hosts/fleet-", ("Further ones", "From the first"), &[500, 500][..]),
        (
            "/hosts?q=fleet-0&show=active",
            "<a href=\"/hosts/fleet-0",
            ("Further ones", "From the first"),
            &[500, 500],
        ),
        ("/hosts?q=fleet-00", "<a href=\"/hosts/fleet-00", ("Further ones", "From the first"), &[100]),
        (
            "/runs",
            "scope=\"row\"><a href=\"/runs/",
            ("Older ones", "The newest"),
            &[300, 300, 300, 300, 300, 300, 200],
        ),
        ("/runs?host=fleet-0007", "scope=\"row\"><a href=\"/runs/", ("Older ones", "The newest"), &[2]),
    ] {
        let mut path = first.to_owned();
        let mut seen = Vec::new();
        loop {
            let page = browser.get(&path).await;
            assert_eq!(page.status, 200, "{path}");
            seen.push(page.text.matches(row).count());
            assert_eq!(linked(&page.text, links.1).is_some(), seen.len() > 1, "{path}");
            let Some(next) = linked(&page.text, links.0) else { break };
            path = next.replace("&amp;", "&");
        }
        assert_eq!(seen, rows, "{first}");
    }
    assert_eq!(browser.get("/runs?host=nobody").await.status, 404);
}
