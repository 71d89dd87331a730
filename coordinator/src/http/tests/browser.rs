//! The web page in Chromium, against a coordinator with machines: people log in, follow a run, edit a spec, give orders.
//! Every page is looked at on a desk, on a phone, in the dark and on paper; the pictures lie in target/web-screenshots.

mod rack;

use vetting_protocol::agent_api::EventLevel;

use super::users::PASSWORD;
use super::webdriver::{Chromium, Look};
use super::*;
use rack::{SPEC_OF_RACK, STORIES, Story, mac_of};

const LOOKS: [Look; 4] = [
    Look { name: "desk", width: 1280, dark: false, print: false },
    Look { name: "phone", width: 390, dark: false, print: false },
    Look { name: "dark", width: 1280, dark: true, print: false },
    Look { name: "paper", width: 800, dark: false, print: true },
];

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
