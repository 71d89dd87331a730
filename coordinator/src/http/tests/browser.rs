//! The web page in Chromium, against a coordinator with machines: people log in, follow a run, edit a spec, give orders.
//! Every page is looked at on a desk, on a phone, in the dark and on paper; the pictures lie in target/web-screenshots.

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;

use super::users::PASSWORD;
use super::webdriver::{Chromium, Look};
use super::*;

const LOOKS: [Look; 4] = [
    Look { name: "desk", width: 1280, dark: false, print: false },
    Look { name: "phone", width: 390, dark: false, print: false },
    Look { name: "dark", width: 1280, dark: true, print: false },
    Look { name: "paper", width: 800, dark: false, print: true },
];

const SPEC_OF_RACK: &str = "\
# what was ordered: 24 of these
memory:
  total_gib: 256
cpu:
  sockets: 2
  model: Intel(R) Xeon(R) Gold 6338*
disks:
  - {model: INTEL*, count: 4, size_gb: {min: 900}}
";

/// A sensor: kind, key, unit, at rest, under load.
const SENSORS: [(&str, &str, &str, f64, f64); 13] = [
    ("temp", "cpu/0", "celsius", 38.0, 78.0),
    ("temp", "cpu/1", "celsius", 36.0, 74.0),
    ("temp", "disk/sda", "celsius", 30.0, 37.0),
    ("temp", "disk/sdb", "celsius", 31.0, 39.0),
    ("temp", "hwmon/jc42-0", "celsius", 34.0, 52.0),
    ("temp", "hwmon/jc42-1", "celsius", 33.0, 50.0),
    ("fan", "hwmon/nct6798/fan1", "rpm", 3_100.0, 7_400.0),
    ("fan", "hwmon/nct6798/fan2", "rpm", 3_080.0, 7_310.0),
    ("fan", "hwmon/nct6798/fan3", "rpm", 3_120.0, 7_390.0),
    ("power", "hwmon/power_meter/0", "watts", 140.0, 412.0),
    ("cpu_freq", "cpu/0", "mhz", 800.0, 2_900.0),
    ("cpu_freq", "cpu/1", "mhz", 800.0, 2_890.0),
    ("fio", "sda/randread/bandwidth", "bytes_per_second", 380e6, 410e6),
];

/// How a machine's run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Never,
    Waits,
    Runs,
    Passes,
    Fails,
    FailsAndIsReleased,
}

const STORIES: [Story; 12] = [
    Story::Passes,
    Story::Runs,
    Story::Passes,
    Story::Fails,
    Story::Runs,
    Story::Waits,
    Story::Passes,
    Story::FailsAndIsReleased,
    Story::Never,
    Story::Runs,
    Story::Passes,
    Story::Never,
];

/// The beginning of what smartctl writes of a disk.
const SMART_OF_SDB: &str = r#"{
  "json_format_version": [1, 0],
  "smartctl": {"version": [7, 3], "platform_info": "x86_64-linux-6.12", "exit_status": 64},
  "device": {"name": "/dev/sdb", "info_name": "/dev/sdb [SAT]", "type": "sat", "protocol": "ATA"},
  "ata_smart_error_log": {"extended": {"revision": 1, "sectors": 1, "count": 12}},
  "smart_status": {"passed": true}
}"#;

fn mac_of(number: usize) -> String {
    format!("52:54:00:ab:00:{number:02x}")
}

/// What the sensors read from one time to another, every five seconds.
fn samples(stage: StageName, from_ms: i64, seconds: i64, load: f64) -> Vec<Record> {
    let mut records = Vec::new();
    for step in 0..seconds / 5 {
        let warm = load * (1.0 - (-(step as f64) / 18.0).exp());
        let ripple = ((step * 7 % 11) as f64 - 5.0) / 400.0;
        for (kind, key, unit, rest, full) in SENSORS {
            records.push(Record::Measurement(Measurement {
                ts_ms: from_ms + step * 5_000,
                stage: Some(stage),
                kind: kind.to_owned(),
                key: key.to_owned(),
                value: Some((rest + (full - rest) * warm) * (1.0 + ripple)),
                unit: unit.to_owned(),
            }));
        }
    }
    records
}

/// What a machine of the rack is made of; no serial number is another's, but for one disk that came from the first machine.
fn made_of(number: usize) -> Record {
    let text = include_str!("../../../judge/fixtures/dell-r640.inventory.json");
    let mut inventory: Inventory = serde_json::from_str(text).unwrap();
    let own = |serial: &mut Option<String>| {
        if let Some(serial) = serial {
            *serial = format!("{serial}{number:02}");
        }
    };
    own(&mut inventory.system.serial);
    own(&mut inventory.board.serial);
    inventory.memory.dimms.iter_mut().for_each(|dimm| own(&mut dimm.serial));
    inventory.disks.iter_mut().skip(1).for_each(|disk| own(&mut disk.serial));
    inventory.nics.clear();
    Record::Inventory(Box::new(inventory))
}

impl Lab {
    async fn claim_as(&self, run: RunId, mac: &str) -> Claimed {
        let script = self.script(mac).await;
        let (_, rest) = script.split_once("vetting.claim=").unwrap_or_else(|| panic!("{script}"));
        let secret = Secret::new(rest.split(' ').next().unwrap().to_owned());
        let mut request = Self::claim_request(run, &secret, BOOT);
        request.macs = vec![mac.parse().unwrap()];
        let answer = self.claiming(&request).send().await.unwrap();
        let response: ClaimResponse = answer.json().await.unwrap();
        Claimed { run, token: response.token.clone(), response, secret }
    }

    /// A machine of the rack, as far as its story goes.
    async fn lives(&self, number: usize, story: Story) -> Option<Claimed> {
        let (name, mac) = (format!("rack1-u{:02}", number + 1), mac_of(number));
        let body = json!({"name": name, "mac": mac, "expected_spec_yaml": SPEC_OF_RACK, "notes": "row B, delivery of May"});
        let _: Value = good(self.operator(Method::POST, "hosts").json(&body)).await;
        if story == Story::Never {
            return None;
        }
        let run = self.start_run(&name).await;
        if story == Story::Waits {
            return None;
        }
        let claimed = self.claim_as(run, &mac).await;
        match story {
            Story::Never | Story::Waits => {}
            Story::Passes => {
                let mut records = healthy(&claimed);
                records.insert(1, made_of(number));
                self.send(&claimed, 1, records).await;
                self.verdict(&claimed).await;
            }
            Story::Fails | Story::FailsAndIsReleased => {
                self.store_smart_output(&claimed).await;
                self.send(&claimed, 1, until_storage_fails(&claimed, number)).await;
                self.verdict(&claimed).await;
                if story == Story::FailsAndIsReleased {
                    let released = self.operator(Method::POST, &format!("runs/{run}/release")).send().await;
                    assert_eq!(released.unwrap().status(), 200);
                }
            }
            Story::Runs => self.work_half_way(&claimed, number).await,
        }
        Some(claimed)
    }

    /// What smartctl wrote, as the agent keeps it.
    async fn store_smart_output(&self, claimed: &Claimed) {
        let call = |args: [&str; 3], exit: &str, stdout: &str| {
            json!({"ts_ms": START_MS + 90_000, "tool": "smartctl", "args": args, "exit": exit, "elapsed_ms": 412, "stdout": stdout, "stderr": ""})
                .to_string()
                + "\n"
        };
        let body = call(["-x", "-j", "/dev/sda"], "code 0", SMART_OF_SDB)
            + &call(["-x", "-j", "/dev/sdb"], "code 64", SMART_OF_SDB);
        let upload = self
            .agent(claimed, Method::PUT, "artifacts/tool_output/SMART.jsonl")
            .header("X-Content-SHA256", Sha256Hex::of(body.as_bytes()).to_string());
        let _: Value = good(upload.body(body)).await;
    }

    async fn work_half_way(&self, claimed: &Claimed, number: usize) {
        let mut at_ms = START_MS;
        let mut sequence = 0;
        for planned in &claimed.response.plan.stages {
            let stage = planned.work.name();
            let is_last = stage == StageName::CpuStress;
            let seconds = if is_last { 600 } else { 30 };
            let mut records = vec![Record::StageStarted { stage, ts_ms: at_ms }];
            if stage == StageName::Inventory {
                records.push(made_of(number));
            }
            records.extend(samples(stage, at_ms, seconds, if is_last { 1.0 } else { 0.1 }));
            at_ms += seconds * 1_000;
            if stage == StageName::SpecValidate {
                records.push(Record::SpecDiffs { diffs: Vec::new() });
            }
            if is_last {
                let percent = 31.0 + 17.0 * number as f64 % 60.0;
                records.push(Record::Progress {
                    stage,
                    sub_step: None,
                    percent,
                    eta_ms: Some(252_000),
                    ts_ms: at_ms,
                });
            } else {
                let details = Value::Null;
                records.push(Record::StageFinished { stage, outcome: Outcome::Pass, details, ts_ms: at_ms });
            }
            sequence += 1;
            self.send(claimed, sequence, records).await;
            if is_last {
                return;
            }
        }
    }
}

/// A run whose disk has sectors that cannot be read, and a CPU that was too hot for a while.
fn until_storage_fails(claimed: &Claimed, number: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at_ms = START_MS;
    for planned in &claimed.response.plan.stages {
        let stage = planned.work.name();
        let seconds = if stage == StageName::CpuStress { 300 } else { 60 };
        records.push(Record::StageStarted { stage, ts_ms: at_ms });
        records.extend(samples(stage, at_ms, seconds, if stage == StageName::CpuStress { 0.9 } else { 0.2 }));
        at_ms += seconds * 1_000;
        if stage == StageName::Inventory {
            records.push(made_of(number));
        }
        if stage == StageName::SpecValidate {
            records.push(Record::SpecDiffs { diffs: Vec::new() });
        }
        let is_bad = stage == StageName::Storage;
        if is_bad {
            records.extend(reading_of_disks(stage, at_ms - 60_000));
        }
        let outcome = if is_bad {
            Outcome::Fail { reason: "sdb: 3 sectors cannot be read (LBA 1953525100 and two more)".to_owned() }
        } else {
            Outcome::Pass
        };
        records.push(Record::StageFinished { stage, outcome, details: Value::Null, ts_ms: at_ms });
        if is_bad {
            break;
        }
    }
    records.push(Record::PipelineFinished { ts_ms: at_ms });
    records
}

/// Two disks are read; the second has sectors that cannot be, and the kernel says so.
fn reading_of_disks(stage: StageName, from_ms: i64) -> Vec<Record> {
    let begins = |ordinal: u32, name: &str| Record::SubStepStarted {
        stage,
        ordinal,
        name: name.to_owned(),
        ts_ms: from_ms,
    };
    let ends = |ordinal, outcome, ts_ms| Record::SubStepFinished {
        stage,
        ordinal,
        outcome,
        details: Value::Null,
        ts_ms,
    };
    let said = |message: &str, ts_ms| Record::Event {
        level: EventLevel::Warning,
        kind: "kernel_log".to_owned(),
        message: message.to_owned(),
        ts_ms,
    };
    vec![
        begins(0, "sda read"),
        begins(1, "sdb read"),
        said("ata2.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x0", from_ms + 21_000),
        said(
            "I/O error, dev sdb, sector 1953525100 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
            from_ms + 21_400,
        ),
        ends(0, Outcome::Pass, from_ms + 48_000),
        ends(
            1,
            Outcome::Fail { reason: "3 sectors cannot be read (LBA 1953525100 and two more)".to_owned() },
            from_ms + 55_000,
        ),
    ]
}

/// What is wrong stands at its field, and nothing that was typed is lost.
async fn add_a_machine(chromium: &Chromium, base: &str) {
    chromium.go(&format!("{base}/new-host?name=rack1-u20&mac=3c:ec:ef:12:34")).await;
    chromium
        .value("(document.querySelector('textarea[name=spec]').value = 'memory:\\n  total_gib: 256\\n')")
        .await;
    chromium.click("input[value=quick]").await;
    chromium.click(".go").await;
    chromium.until("document.querySelector('#wrong-mac') !== null").await;
    chromium.picture("new-host", LOOKS[0]).await;
    chromium.picture("new-host", LOOKS[1]).await;
    assert_eq!(chromium.value("document.activeElement.name").await, "mac");
    chromium.value("(document.activeElement.value = '')").await;
    chromium.type_into("input[name=mac]", "3c:ec:ef:12:34:56").await;
    chromium.click(".go").await;
    chromium
        .until("location.pathname.startsWith('/runs/') && document.body.innerText.includes('rack1-u20')")
        .await;
}

/// As it is on a desk and on a phone; some also in the dark and on paper.
async fn look_at_every_page(chromium: &Chromium, base: &str, run: &str, held: &str) {
    let report = format!("{held}/report");
    let output = format!("{held}/output/SMART.jsonl");
    let pages = [
        ("dashboard", "/"),
        ("hosts", "/hosts"),
        ("host", "/hosts/rack1-u04"),
        ("run", run),
        ("held", held),
        ("output", output.as_str()),
        ("report", report.as_str()),
        ("start", "/hosts/rack1-u09/start"),
        ("runs", "/runs"),
        ("models", "/models"),
        ("events", "/events"),
        ("settings", "/settings"),
        ("password", "/settings/password"),
        ("new-token", "/settings/tokens/new"),
    ];
    for (name, path) in pages {
        chromium.go(&format!("{base}{path}")).await;
        // colours and paper are of the style sheet, which all pages share
        let looks =
            if ["dashboard", "held", "host", "report"].contains(&name) { &LOOKS[..] } else { &LOOKS[..2] };
        for look in looks {
            chromium.picture(name, *look).await;
        }
    }
}

/// New machines get a tile in its place, those that are removed lose theirs, and a filter is kept.
async fn machines_come_and_go(lab: &Lab, chromium: &Chromium, dashboard: &str) {
    let add = async |name: &str, number: usize| {
        let body = json!({"name": name, "mac": mac_of(number), "expected_spec_yaml": SPEC_OF_RACK});
        let _: Value = good(lab.operator(Method::POST, "hosts").json(&body)).await;
    };
    let remove = async |name: &str| {
        let path = format!("hosts/{name}?with_runs=true");
        assert_eq!(lab.operator(Method::DELETE, &path).send().await.unwrap().status(), 204);
    };
    let names = "[...document.querySelectorAll('.tile .name')].map((one) => one.textContent).join(' ')";
    let before = chromium.value(names).await.as_str().unwrap().to_owned();
    add("rack0-u01", 90).await;
    add("rack1-u05b", 91).await;
    add("rack9-u01", 92).await;
    let with_new = format!("rack0-u01 {} rack9-u01", before.replace("rack1-u06", "rack1-u05b rack1-u06"));
    chromium.until(&format!("{names} == '{with_new}'")).await;
    for name in ["rack0-u01", "rack1-u05b", "rack9-u01"] {
        remove(name).await;
    }
    chromium.until(&format!("{names} == '{before}'")).await;
    assert_eq!(chromium.value("window.notLoadedAnew").await, true);

    chromium.go(&format!("{dashboard}?show=never")).await;
    chromium.until(&format!("{names} == 'rack1-u09 rack1-u12'")).await;
    add("rack1-u10b", 93).await;
    chromium.until(&format!("{names} == 'rack1-u09 rack1-u10b rack1-u12'")).await;
    let run = lab.start_run("rack1-u10b").await;
    chromium.until(&format!("{names} == 'rack1-u09 rack1-u12'")).await;
    let _: RunSummary = good(lab.operator(Method::POST, &format!("runs/{run}/abort"))).await;
    remove("rack1-u10b").await;
}

/// Every page reads the same in a browser that runs no scripts.
async fn read_without_scripts(chromium: &Chromium, base: &str, held: &str) {
    chromium.let_scripts_run(false).await;
    for (path, words) in [
        ("/", &["rack1-u01", "rack1-u12", "Held for you", "29 s left"][..]),
        ("/hosts", &["rack1-u01", "never vetted", "row B, delivery of May"]),
        ("/hosts/rack1-u04", &["total_gib: 256", "fail, held"]),
        (held, &["sdb: 3 sectors cannot be read", "<svg", "<polyline", "I/O error, dev sdb", "SHA-256"]),
        ("/events", &["run_state", "kernel_log"]),
    ] {
        let mut page = String::new();
        // charts that are not drawn yet come with a later look
        while page.is_empty() || (path == held && !page.contains("<polyline")) {
            chromium.go(&format!("{base}{path}")).await;
            page = chromium.html().await;
        }
        for word in words {
            assert!(page.contains(word), "{path} {word}: {page}");
        }
    }
    chromium.let_scripts_run(true).await;
}

/// Tab leads through all that can be used or scrolled, in the order of the page, and it can be seen where one is.
async fn walk_by_keyboard(chromium: &Chromium, page: &str) {
    const USABLE: &str =
        "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
    chromium.go(page).await;
    chromium.until("document.querySelector('svg') !== null").await;
    let stops = format!(
        "(window.stops = [...document.querySelectorAll(\"{USABLE}\")].filter((one) => one.checkVisibility()))"
    );
    let count = chromium.value(&format!("{stops}.length")).await.as_u64().unwrap();
    for wanted in ["/release", "/retry", "/resume", "/waive?"] {
        let reached =
            format!("window.stops.some((one) => (one.getAttribute('href') ?? '').includes('{wanted}'))");
        assert_eq!(chromium.value(&reached).await, true, "{wanted}");
    }
    for position in 0..count {
        chromium.press("\u{e004}").await;
        let at = chromium
            .value(
                "[window.stops.indexOf(document.activeElement), getComputedStyle(document.activeElement).outlineStyle, \
                 document.activeElement.outerHTML.slice(0, 200)]",
            )
            .await;
        assert_eq!(at[0], position, "{at}");
        assert_eq!(at[1], "solid", "{at}");
    }
    // a box that can be scrolled says what it is
    let nameless = "[...document.querySelectorAll('.scroll, .tail')].filter((one) => one.tabIndex != 0 || !one.ariaLabel).length";
    assert_eq!(chromium.value(nameless).await, 0);
}

/// It shows its end.
async fn read_the_log(chromium: &Chromium, page: &str) {
    chromium.go(page).await;
    let tail = "document.querySelector('.tail')";
    assert_eq!(chromium.value(&format!("{tail}.scrollTop")).await, 0);
    assert_eq!(chromium.value(&format!("{tail}.querySelector('li:last-child').getBoundingClientRect().bottom <= {tail}.getBoundingClientRect().bottom")).await, true);
}

/// The machine tells something, and is so far.
fn told_at(percent: f64, messages: impl Iterator<Item = String>) -> Vec<Record> {
    let ts_ms = START_MS + 800_000;
    let event =
        |message| Record::Event { level: EventLevel::Info, kind: "sel_entry".to_owned(), message, ts_ms };
    let stage = StageName::CpuStress;
    let progress = Record::Progress { stage, sub_step: None, percent, eta_ms: None, ts_ms };
    messages.map(event).chain([progress]).collect()
}

/// It follows what comes, but not away from somebody who scrolled back.
async fn follow_the_log(lab: &Lab, running: &Claimed, sequence: u64, chromium: &Chromium) {
    let log = "document.querySelector('.tail')";
    lab.send(running, sequence, told_at(94.0, (0..40).map(|number| format!("entry {number}.")))).await;
    chromium.until(&format!("{log}.innerText.includes('entry 39.') && {log}.scrollTop == 0")).await;
    chromium.value(&format!("{log}.scrollBy(0, -100)")).await;
    // in the page's order the log comes after the stages: what came with 95 % is settled when 96 % is there
    for (sequence, percent) in [(sequence + 1, 95.0), (sequence + 2, 96.0)] {
        lab.send(running, sequence, told_at(percent, std::iter::once(format!("at {percent}.")))).await;
        chromium
            .until(&format!("document.querySelector('#run-stages').innerText.includes('{percent} %')"))
            .await;
    }
    assert_eq!(chromium.value(&format!("{log}.innerText.includes('at 95.')")).await, false);
    assert!(chromium.value(&format!("{log}.scrollTop")).await.as_f64().unwrap() < -50.0);
    chromium.value(&format!("({log}.scrollTop = 0)")).await;
    lab.send(running, sequence + 3, told_at(97.0, std::iter::once("the newest.".to_owned()))).await;
    chromium
        .until(&format!("{log}.innerText.includes('at 95.') && {log}.innerText.includes('the newest.')"))
        .await;
}

#[tokio::test]
async fn people_use_the_pages_in_a_browser() {
    let lab = Lab::open().await;
    lab.add_user("alice", "operator").await;
    let mut running = None;
    for (number, story) in STORIES.into_iter().enumerate() {
        let claimed = lab.lives(number, story).await;
        if story == Story::Runs && running.is_none() {
            running = claimed;
        }
    }
    let running = running.unwrap();
    let chromium = Chromium::start().await;
    let base = format!("https://127.0.0.1:{}", lab.server.https.port());
    let page = |path: &str| format!("{base}{path}");

    // who is not logged in comes back to where they wanted to go
    chromium.go(&page("/hosts?q=rack1-u04")).await;
    chromium.picture("login", LOOKS[1]).await;
    chromium.type_into("input[name=name]", "alice").await;
    chromium.type_into("input[name=password]", PASSWORD).await;
    chromium.click(".login button").await;
    chromium.until("location.pathname == '/hosts'").await;
    assert_eq!(chromium.value("location.pathname + location.search").await, "/hosts?q=rack1-u04");
    assert_eq!(chromium.value("document.querySelectorAll('tbody tr').length").await, 1);

    // the dashboard follows a machine without being loaded anew
    chromium.go(&page("/")).await;
    assert_eq!(chromium.value("document.querySelectorAll('.tile').length").await, STORIES.len());
    chromium.value("(window.notLoadedAnew = true)").await;
    let records = vec![Record::Progress {
        stage: StageName::CpuStress,
        sub_step: None,
        percent: 93.0,
        eta_ms: Some(29_000),
        ts_ms: START_MS + 700_000,
    }];
    let sequence = 1 + running
        .response
        .plan
        .stages
        .iter()
        .position(|planned| planned.work.name() == StageName::CpuStress)
        .unwrap() as u64;
    lab.send(&running, sequence + 1, records).await;
    chromium.until("document.querySelector('#host-2').innerText.includes('29 s left')").await;
    assert_eq!(chromium.value("window.notLoadedAnew").await, true);
    assert!(
        chromium
            .value("document.querySelector('#host-2').innerText")
            .await
            .as_str()
            .unwrap()
            .contains("cpu/0")
    );

    machines_come_and_go(&lab, &chromium, &page("/")).await;

    let (run, held) = (format!("/runs/{}", running.run), format!("/runs/{}", running.run.0 + 2));
    look_at_every_page(&chromium, &base, &run, &held).await;
    assert_eq!(chromium.complaints().await, Vec::<String>::new());
    read_without_scripts(&chromium, &base, &held).await;
    walk_by_keyboard(&chromium, &page(&held)).await;

    // a mistake in a spec is shown where it is, and nothing is saved
    chromium.go(&page("/hosts/rack1-u09/spec")).await;
    chromium.value("(document.querySelector('textarea').value = 'memory:\\n  total: 1\\n')").await;
    chromium.click(".go").await;
    chromium.until("document.body.innerText.includes('Not saved')").await;
    assert!(chromium.text().await.contains("line 2, column 3"), "{}", chromium.text().await);
    chromium.picture("spec", LOOKS[0]).await;
    let at = chromium.value("document.activeElement.selectionStart").await;
    assert_eq!(at, 10, "the cursor is where the mistake is");

    add_a_machine(&chromium, &base).await;
    read_the_log(&chromium, &page(&held)).await;

    // an order asks first, and a keyboard is enough
    chromium.go(&page(&run)).await;
    follow_the_log(&lab, &running, sequence + 2, &chromium).await;
    chromium.click("a[href$='/abort']").await;
    chromium.picture("abort", LOOKS[1]).await;
    chromium.type_into(".go", "\u{e007}").await;
    chromium
        .until("!location.pathname.endsWith('/abort') && document.body.innerText.includes('aborted')")
        .await;
    assert!(chromium.text().await.contains("aborted"), "{}", chromium.text().await);

    // an answer that is no page is a complaint of the browser's own; all others are not
    let complaints = chromium.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("422")), "{complaints:?}");
    assert_eq!(chromium.sticking_out(), Vec::<String>::new());
    chromium.click(".who button").await;
    chromium.until("location.pathname == '/login'").await;
    assert_eq!(chromium.value("location.pathname").await, "/login");
    chromium.quit().await;
}
