//! The log on the page of a run, and what its tools wrote: shown as text, bounded, followed live.

use reqwest::Method;
use vetting_protocol::agent_api::{AgentCrash, EventLevel};

use super::web::{Browser, HOSTILE, is_without_inline_code, with_people};
use super::*;

fn event(kind: &str, message: &str, ts_ms: i64) -> Record {
    Record::Event { level: EventLevel::Warning, kind: kind.to_owned(), message: message.to_owned(), ts_ms }
}

/// The log's lines on a page, as they stand in it, without those of the days.
fn lines(page: &str) -> Vec<String> {
    let (_, rest) = page.split_once("<ol class=\"log\">").unwrap_or_else(|| panic!("{page}"));
    let (list, _) = rest.split_once("</ol>").unwrap();
    let lines: Vec<String> = list.split("<li class=").skip(1).map(str::to_owned).collect();
    assert!(lines[0].starts_with("\"day\">2023-11-14"), "{lines:?}");
    lines.into_iter().filter(|line| !line.starts_with("\"day\"")).collect()
}

#[tokio::test]
async fn the_log_ends_with_the_newest_line_and_tells_of_sub_steps() {
    let (lab, browser) = with_people().await;
    let claimed = lab.claimed().await;
    let stage = claimed.response.plan.stages[0].work.name();
    let sub_step = |ts_ms| Record::SubStepStarted { stage, ordinal: 0, name: "sda read".to_owned(), ts_ms };
    let failed = Record::SubStepFinished {
        stage,
        ordinal: 0,
        outcome: Outcome::Fail { reason: "3 sectors".to_owned() },
        details: Value::Null,
        ts_ms: START_MS + 5_000,
    };
    let records = vec![
        started(stage),
        sub_step(START_MS + 2_000),
        event("kernel_log", "ata1: link is slow", START_MS + 3_000),
        failed,
        event("kernel_log", "the newest", START_MS + 9_000),
    ];
    lab.send(&claimed, 1, records).await;
    let lines = lines(&browser.get("/runs/1").await.text);
    let at = |words: &str| {
        lines.iter().position(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {lines:?}"))
    };
    assert!(at("sda read begins") < at("link is slow"));
    assert!(at("link is slow") < at("sda read failed: 3 sectors"));
    assert_eq!(at("the newest"), lines.len() - 1);
    assert!(lines[at("link is slow")].starts_with("\"warn\""));

    let mut stream = browser.request(Method::GET, "/live/runs/1").send().await.unwrap();
    let mut text = String::new();
    while !text.contains("run-log") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    lab.send(&claimed, 2, vec![event("kernel_log", "newer still", START_MS + 10_000)]).await;
    while !text.contains("newer still") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_long_and_hostile_log_is_cut_and_shown_as_text() {
    let (lab, browser) = with_people().await;
    let claimed = lab.claimed().await;
    let mut records: Vec<Record> =
        (0..1_000).map(|number| event("kernel_log", &format!("line {number}."), START_MS + number)).collect();
    records.push(event(
        "kernel_log",
        &format!("{HOSTILE}\n\u{1b}[2Jx{}", "y".repeat(100_000)),
        START_MS + 2_000,
    ));
    lab.send(&claimed, 1, records).await;
    let last_lines = vec!["thread 'main' panicked".to_owned(), HOSTILE.to_owned()];
    let crash = AgentCrash { boot_id: BOOT.to_owned(), how: "signal 11".to_owned(), last_lines };
    let _: Acknowledgement = good(lab.agent(&claimed, Method::POST, "crash").json(&crash)).await;
    let page = browser.get("/runs/1").await.text;
    let lines = lines(&page);
    assert_eq!(lines.len(), 200);
    assert!(!page.contains("line 700.") && page.contains("line 999."));
    assert!(page.len() < 200_000, "{}", page.len());
    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("thread 'main' panicked"), "{page}");
    assert!(!page.contains("<script>") && !page.contains("<img") && !page.contains('\u{1b}'));
    is_without_inline_code("/runs/1", &page);
    let whole = browser.get("/events?run=1&kind=kernel_*").await.text;
    assert!(
        whole.contains("line 900.")
            && whole.contains("/events?kind=kernel_*&amp;host=&amp;run=1&amp;before="),
        "{whole}"
    );
    assert_eq!(browser.get("/events?run=x").await.status, 404);
}

async fn store(lab: &Lab, claimed: &Claimed, name: &str, body: String) {
    let upload = lab
        .agent(claimed, Method::PUT, &format!("artifacts/tool_output/{name}"))
        .header("X-Content-SHA256", Sha256Hex::of(body.as_bytes()).to_string());
    let _: Value = good(upload.body(body)).await;
}

#[tokio::test]
async fn what_the_tools_wrote_is_read_stage_by_stage() {
    let (lab, browser) = with_people().await;
    let claimed = lab.claimed().await;
    let call = |tool: &str, stdout: &str| {
        json!({"ts_ms": START_MS, "tool": tool, "args": ["-a", HOSTILE], "exit": "code 0", "elapsed_ms": 7, "stdout": stdout, "stderr": "warned"})
            .to_string()
            + "\n"
    };
    store(&lab, &claimed, "SMART.jsonl", call("smartctl", &format!("{HOSTILE} healthy"))).await;
    let long = format!("{}the end", "x".repeat(3 * 1024 * 1024));
    store(&lab, &claimed, "Storage.jsonl", call("fio", &long) + &call("fio", &long)).await;
    let mut viewer = Browser::of(&lab);
    viewer.log_in("victor").await;
    let run = viewer.get("/runs/1").await.text;
    for name in ["SMART", "Storage"] {
        assert!(run.contains(&format!("/runs/1/output/{name}.jsonl")), "{run}");
        assert!(run.contains(&format!("/runs/1/files/tool_output/{name}.jsonl")), "{run}");
    }
    let smart = viewer.get("/runs/1/output/SMART.jsonl").await;
    assert_eq!(smart.status, 200);
    assert!(
        smart.text.contains("healthy") && smart.text.contains("smartctl -a &lt;script&gt;"),
        "{}",
        smart.text
    );
    assert!(!smart.text.contains("<script>") && !smart.text.contains("<img"));
    is_without_inline_code("output", &smart.text);
    let storage = viewer.get("/runs/1/output/Storage.jsonl").await.text;
    assert!(storage.contains("the end") && storage.contains("These are the last calls"), "{storage}");
    assert!(storage.len() < 60_000, "{}", storage.len());
    // each file is saved as itself
    let saved = viewer.get("/runs/1/files/tool_output/SMART.jsonl").await;
    assert!(saved.text.contains("healthy"), "{}", saved.text);
    for path in [
        "/runs/1/output/none.jsonl",
        "/runs/1/output/..%2f..%2fvetting.db",
        "/runs/1/files/tool_output/..%2fSMART.jsonl",
        "/runs/1/files/hold_key/SMART.jsonl",
    ] {
        let status = browser.get(path).await.status;
        assert!([404, 422].contains(&status), "{path}: {status}");
    }
}
