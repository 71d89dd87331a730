//! The web page as a browser speaks to it: log-ins, cookies, forms, roles, and that nothing hostile is shown as ours.

use reqwest::redirect::Policy;
use reqwest::{Method, Response};
use vetting_protocol::ids::StageName;
use vetting_protocol::run::RunState;

use super::users::PASSWORD;
use super::*;

/// A browser without a screen: no redirect is followed, the cookie is kept.
pub(super) struct Browser {
    http: Client,
    base: String,
    cookie: Option<String>,
    csrf: String,
}

pub(super) struct Page {
    pub status: u16,
    pub location: Option<String>,
    pub text: String,
}

impl Browser {
    pub(super) fn of(lab: &Lab) -> Self {
        let pem = std::fs::read(lab.path("tls/ca.pem")).unwrap();
        let http = Client::builder()
            .tls_certs_only([Certificate::from_pem(&pem).unwrap()])
            .no_proxy()
            .redirect(Policy::none())
            .resolve(TLS_SERVER_NAME, lab.server.https)
            .build()
            .unwrap();
        let base = format!("https://{TLS_SERVER_NAME}:{}", lab.server.https.port());
        Self { http, base, cookie: None, csrf: String::new() }
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).header("accept", "text/html");
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    async fn page(answer: Response) -> Page {
        let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        Page { status: answer.status().as_u16(), location, text: answer.text().await.unwrap() }
    }

    pub(super) async fn get(&self, path: &str) -> Page {
        Self::page(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(super) fn posting(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let body = serde_urlencoded::to_string(fields).unwrap();
        self.request(Method::POST, path)
            .header("origin", &self.base)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }

    /// Proves that a form is of this session.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Sends a form of this session.
    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let fields = [&[("csrf", self.csrf.as_str())], fields].concat();
        Self::page(self.posting(path, &fields).send().await.unwrap()).await
    }

    pub(super) async fn try_log_in(&self, name: &str, password: &str) -> Response {
        self.posting("/login", &[("name", name), ("password", password), ("next", "/hosts")])
            .send()
            .await
            .unwrap()
    }

    pub(super) async fn log_in(&mut self, name: &str) {
        let answer = self.try_log_in(name, PASSWORD).await;
        assert_eq!(answer.status(), 303);
        assert_eq!(answer.headers()["location"], "/hosts");
        self.take_cookie(&answer);
        self.csrf = self.csrf_of("/settings").await;
    }

    fn take_cookie(&mut self, answer: &Response) -> String {
        let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        self.cookie = set.split(';').next().map(str::to_owned);
        set
    }

    async fn csrf_of(&self, path: &str) -> String {
        let page = self.get(path).await;
        let (_, rest) =
            page.text.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("{}", page.text));
        rest.split('"').next().unwrap().to_owned()
    }
}

/// A coordinator with an operator who is logged in, and a viewer.
pub(super) async fn with_people() -> (Lab, Browser) {
    let lab = Lab::open().await;
    lab.add_user("alice", "operator").await;
    lab.add_user("victor", "viewer").await;
    let mut browser = Browser::of(&lab);
    browser.log_in("alice").await;
    (lab, browser)
}

#[tokio::test]
async fn a_log_in_opens_the_pages_and_a_log_out_closes_them() {
    let lab = Lab::open().await;
    lab.add_user("alice", "operator").await;
    let mut browser = Browser::of(&lab);
    let page = browser.get("/runs?x=1").await;
    assert_eq!((page.status, page.location.as_deref()), (303, Some("/login?next=%2Fruns%3Fx%3D1")));
    for (name, password) in [("alice", "wrong horse battery"), ("nobody", PASSWORD), ("", "")] {
        let answer = browser.try_log_in(name, password).await;
        assert_eq!(answer.status(), 401);
        assert!(answer.headers().get("set-cookie").is_none());
        assert!(answer.text().await.unwrap().contains("do not fit"));
    }
    let answer = browser.try_log_in("alice", PASSWORD).await;
    let set = browser.take_cookie(&answer);
    for word in ["__Host-vetting=", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(set.contains(word), "{set}");
    }
    assert_eq!(browser.get("/hosts").await.status, 200);
    let secret = browser.cookie.clone().unwrap().split_once('=').unwrap().1.to_owned();
    let database =
        [std::fs::read(lab.path("vetting.db")).unwrap(), std::fs::read(lab.path("vetting.db-wal")).unwrap()];
    let holds =
        |text: &str| database.iter().any(|file| file.windows(text.len()).any(|part| part == text.as_bytes()));
    assert!(holds("argon2id") && !holds(&secret) && !holds(PASSWORD));
    browser.csrf = browser.csrf_of("/settings").await;
    let out = browser.post("/logout", &[]).await;
    assert_eq!((out.status, out.location.as_deref()), (303, Some("/login")));
    assert_eq!(browser.get("/hosts").await.status, 303, "the old cookie is worth nothing");
    let kinds: Vec<_> = lab.events().await.into_iter().map(|event| (event.kind, event.message)).collect();
    let said = |kind: &str, words: &str| kinds.iter().any(|(of, text)| of == kind && text.contains(words));
    assert!(said("login_failed", "alice could not log in from 127.0.0.1"), "{kinds:?}");
    assert!(said("login_failed", "an unknown user") && !said("login_failed", "nobody"), "{kinds:?}");
    assert!(said("user_logged_in", "alice logged in from 127.0.0.1 by password"));
    assert!(said("user_logged_out", "alice logged out"));
}

#[tokio::test]
async fn log_ins_are_counted_by_name_and_the_right_password_does_not_help_for_a_while() {
    let lab = Lab::open().await;
    lab.add_user("alice", "operator").await;
    lab.add_user("bob", "operator").await;
    let browser = Browser::of(&lab);
    for _ in 0..10 {
        assert_eq!(browser.try_log_in("alice", "wrong horse battery").await.status(), 401);
    }
    assert_eq!(browser.try_log_in("alice", PASSWORD).await.status(), 429);
    assert_eq!(browser.try_log_in("bob", PASSWORD).await.status(), 303, "another name");
    lab.clock.set(START_MS + 10 * 60_000);
    assert_eq!(browser.try_log_in("alice", PASSWORD).await.status(), 303);
}

#[tokio::test]
async fn a_session_ends_unused_after_a_while_used_after_its_life_and_with_its_user() {
    const HOUR_MS: i64 = 3_600_000;
    let (lab, mut browser) = with_people().await;
    let mut now_ms = START_MS;
    // used all the time: a week
    for _ in 0..15 {
        now_ms += 11 * HOUR_MS;
        lab.clock.set(now_ms);
        assert_eq!(browser.get("/hosts").await.status, 200, "{}", (now_ms - START_MS) / HOUR_MS);
    }
    lab.clock.set(START_MS + 7 * 24 * HOUR_MS);
    assert_eq!(browser.get("/hosts").await.status, 303);
    browser.log_in("alice").await;
    lab.clock.set(START_MS + (7 * 24 + 12) * HOUR_MS);
    assert_eq!(browser.get("/hosts").await.status, 303, "unused for twelve hours");
    for change in [json!({"password": PASSWORD}), json!({"disabled": true})] {
        browser.log_in("alice").await;
        assert_eq!(browser.get("/hosts").await.status, 200);
        let _: Value = good(lab.operator(Method::PATCH, "users/alice").json(&change)).await;
        assert_eq!(browser.get("/hosts").await.status, 303, "{change}");
    }
    assert_eq!(browser.try_log_in("alice", PASSWORD).await.status(), 401, "disabled");
}

#[tokio::test]
async fn a_form_of_another_session_or_site_changes_nothing() {
    let (lab, browser) = with_people().await;
    lab.add_host("node1", MAC).await;
    let mut other = Browser::of(&lab);
    other.log_in("alice").await;
    let start = [("profile", "quick"), ("place", "live_image"), ("disks", "empty")];
    for csrf in ["", "nonsense", &other.csrf] {
        let fields = [&[("csrf", csrf)], &start[..]].concat();
        let answer = browser.posting("/hosts/node1/start", &fields).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{csrf}");
    }
    let fields = [&[("csrf", browser.csrf.as_str())], &start[..]].concat();
    let foreign = browser.posting("/hosts/node1/start", &fields).header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let runs: Vec<RunSummary> = good(lab.operator(Method::GET, "runs")).await;
    assert!(runs.is_empty());
    assert_eq!(browser.post("/hosts/node1/start", &start).await.location.as_deref(), Some("/runs/1"));
}

#[tokio::test]
async fn a_viewer_sees_no_buttons_and_their_forms_are_refused() {
    let (lab, _) = with_people().await;
    let claimed = lab.claimed().await;
    let mut viewer = Browser::of(&lab);
    viewer.log_in("victor").await;
    for path in ["/hosts/node1", "/runs/1"] {
        let page = viewer.get(path).await;
        assert_eq!(page.status, 200);
        assert!(!page.text.contains("class=\"button"), "{path}: {}", page.text);
    }
    for path in ["/hosts/node1/spec", "/hosts/node1/start", "/runs/1/abort"] {
        assert_eq!(viewer.get(path).await.status, 403, "{path}");
        assert_eq!(viewer.post(path, &[]).await.status, 403, "{path}");
    }
    assert_eq!(viewer.get("/runs/1/files/hold_key").await.status, 403);
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Running);
}

/// What a hostile machine or operator would like to see run.
pub(super) const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

#[tokio::test]
async fn nothing_that_a_machine_or_an_operator_says_becomes_part_of_a_page() {
    let (lab, browser) = with_people().await;
    let claimed = lab.claimed().await;
    let notes = json!({"notes": HOSTILE, "expected_spec_yaml": format!("{SPEC}# {HOSTILE}\n")});
    let _: Value = good(lab.operator(Method::PATCH, "hosts/node1").json(&notes)).await;
    let stage = claimed.response.plan.stages[0].work.name();
    let sample = |ts_ms| {
        Record::Measurement(Measurement {
            ts_ms,
            stage: Some(stage),
            kind: "temp".to_owned(),
            key: HOSTILE.to_owned(),
            value: Some(50.0),
            unit: "celsius".to_owned(),
        })
    };
    let outcome = Outcome::Fail { reason: HOSTILE.to_owned() };
    lab.send(
        &claimed,
        1,
        vec![started(stage), sample(START_MS), sample(START_MS + 5_000), finished(stage, outcome)],
    )
    .await;
    let pages = [
        "/",
        "/hosts",
        "/hosts/node1",
        "/hosts/node1/spec",
        "/hosts/node1/start",
        "/new-host?name=%22%3E%3Cscript%3Ealert(1)&mac=%22%3E%3Cimg+src=x",
        "/runs",
        "/runs/1",
        "/runs/1/abort",
        "/models",
        "/models/compare?model=%3Cscript%3Ealert(1)%3C/script%3E",
        "/events",
        "/events?kind=%22%3E%3Cscript%3Ealert(1)",
        "/hosts?q=%22%3E%3Cscript%3Ealert(1)",
        "/settings",
        "/nowhere/%3Cscript%3Ealert(1)",
        "/runs/x",
    ];
    for path in pages {
        let page = browser.get(path).await;
        assert!(
            page.status == 200 || path.contains("/nowhere") || path == "/runs/x",
            "{path}: {}",
            page.status
        );
        assert!(!page.text.contains("<script>"), "{path}: {}", page.text);
        assert!(!page.text.contains("<img"), "{path}: {}", page.text);
        is_without_inline_code(path, &page.text);
    }
    let run = browser.get("/runs/1").await.text;
    assert!(run.contains("&lt;script&gt;alert(1)"), "it is shown as text");
    assert!(run.contains("<svg"), "its sensor is drawn");
    let mut visitor = Browser::of(&lab);
    visitor.cookie = None;
    let login = visitor.get("/login?next=%22%3E%3Cscript%3Ealert(1)").await;
    assert!(!login.text.contains("<script>"), "{}", login.text);
    is_without_inline_code("/login", &login.text);
}

/// The policy would stop it; it must not be there in the first place.
pub(super) fn is_without_inline_code(path: &str, text: &str) {
    assert!(!text.contains(" style="), "{path}");
    for (_, rest) in text.match_indices("<script").map(|(at, _)| text.split_at(at)) {
        assert!(rest.starts_with("<script src=\"/assets/"), "{path}: {}", &rest[..60]);
    }
    for word in [" onclick=", " onload=", "javascript:"] {
        assert!(!text.contains(word), "{path}: {word}");
    }
}

#[tokio::test]
async fn every_answer_keeps_other_sites_out() {
    let (lab, browser) = with_people().await;
    lab.add_host("node1", MAC).await;
    let login = browser.get("/login").await;
    let asset = login.text.split('"').find(|text| text.ends_with("web.css")).unwrap().to_owned();
    for path in ["/", "/hosts", "/hosts/node1", "/hosts/none", "/login", "/nowhere", asset.as_str()] {
        let answer = browser.request(Method::GET, path).send().await.unwrap();
        let headers = answer.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        for word in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(word), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        assert_eq!(headers["referrer-policy"], "same-origin", "{path}");
        let cache = headers["cache-control"].to_str().unwrap();
        assert_eq!(cache == "no-store", !path.starts_with("/assets"), "{path}: {cache}");
    }
    // programs still get problem documents
    assert_eq!(refused(lab.https(Method::GET, "/api/v1/nowhere")).await, refusal(404, "not-found"));
    assert_eq!(refused(lab.https(Method::GET, "/nowhere")).await, refusal(404, "not-found"));
    assert_eq!(lab.http(Method::GET, "/").send().await.unwrap().status(), 404, "not on the plain listener");
}

/// The version that a form was made of.
pub(super) fn version_of(form: &str) -> String {
    let (_, rest) = form.split_once("name=\"seen\" value=\"").unwrap();
    rest.split('"').next().unwrap().replace("&quot;", "\"")
}

#[tokio::test]
async fn of_two_edits_within_a_second_the_second_is_told_of_the_first() {
    let (lab, browser) = with_people().await;
    lab.add_host("node1", MAC).await;
    let save = async |seen: &str, spec: &str| {
        browser.post("/hosts/node1/spec", &[("seen", seen), ("spec", spec)]).await
    };
    // the clock stands still
    let seen = version_of(&browser.get("/hosts/node1/spec").await.text);
    assert_eq!(save(&seen, "memory: {total_gib: 2}\r\n").await.status, 303);
    let second = save(&seen, "memory: {total_gib: 3}\r\n").await;
    assert_eq!(second.status, 412);
    for word in ["Not saved", "memory: {total_gib: 2}", "memory: {total_gib: 3}"] {
        assert!(second.text.contains(word), "{word}: {}", second.text);
    }
    let host: Value = good(lab.operator(Method::GET, "hosts/node1")).await;
    assert_eq!(host["expected_spec_yaml"], "memory: {total_gib: 2}\n");
    // a mistake does not make the page any newer
    assert_eq!(save(&seen, "memory: 3\r\n").await.status, 422);
    assert_eq!(version_of(&save(&seen, "memory: 3\r\n").await.text), seen);
    // whoever has seen both may decide
    assert_eq!(save(&version_of(&second.text), "memory: {total_gib: 3}\r\n").await.status, 303);
    // what power draw is expected is the machine's as well
    let seen = version_of(&browser.get("/hosts/node1/spec").await.text);
    let _: Value = good(lab.operator(Method::PATCH, "hosts/node1").json(&json!({"burn_watts": 650}))).await;
    assert_eq!(save(&seen, "memory: {total_gib: 4}\r\n").await.status, 412);
    let seen = version_of(&browser.get("/hosts/node1/spec").await.text);
    let gone = save(&seen, "model: gone\r\n").await;
    assert!(gone.text.contains("model: gone"), "what was typed stays: {} {}", gone.status, gone.text);
}

#[tokio::test]
async fn a_spec_is_checked_where_it_is_edited_and_a_newer_one_is_not_overwritten() {
    let (lab, browser) = with_people().await;
    lab.add_host("node1", MAC).await;
    let editor = browser.get("/hosts/node1/spec").await.text;
    let seen = version_of(&editor);
    let save = async |spec: &str| {
        browser.post("/hosts/node1/spec", &[("seen", seen.as_str()), ("spec", spec)]).await
    };
    let wrong = save("memory: {total_gib: 1}\r\ncpu:\r\n  socket: 2\r\n").await;
    assert_eq!(wrong.status, 422);
    for word in ["line 3", "data-line=\"3\"", "  socket: 2", "role=\"alert\""] {
        assert!(wrong.text.contains(word), "{word}: {}", wrong.text);
    }
    let host: Value = good(lab.operator(Method::GET, "hosts/node1")).await;
    assert_eq!(host["expected_spec_yaml"], SPEC);
    lab.clock.set(START_MS + 60_000);
    assert_eq!(save("memory: {total_gib: 2}\r\n").await.status, 303);
    let host: Value = good(lab.operator(Method::GET, "hosts/node1")).await;
    assert_eq!(host["expected_spec_yaml"], "memory: {total_gib: 2}\n");
    assert_eq!(save("memory: {total_gib: 3}\r\n").await.status, 412, "the page is older than the spec");
    let said = lab.events().await.into_iter().any(|event| event.message == "alice edited spec of host node1");
    assert!(said);
}

#[tokio::test]
async fn disks_are_overwritten_only_by_who_typed_the_machines_name() {
    let (lab, browser) = with_people().await;
    lab.add_host("node1", MAC).await;
    let order = async |confirm: &str| {
        let fields = [("profile", "quick"), ("place", "live_image"), ("disks", "wipe"), ("confirm", confirm)];
        browser.post("/hosts/node1/start", &fields).await
    };
    for confirm in ["", "node", "NODE1", "node2"] {
        assert_eq!(order(confirm).await.status, 422, "{confirm}");
    }
    let runs: Vec<RunSummary> = good(lab.operator(Method::GET, "runs")).await;
    assert!(runs.is_empty());
    assert_eq!(order("node1 ").await.location.as_deref(), Some("/runs/1"));
    assert!(lab.detail(RunId(1)).await.wipe);
}

#[tokio::test]
async fn a_failed_run_is_waived_and_retried_with_a_question_before() {
    let (lab, browser) = with_people().await;
    let claimed = lab.claimed().await;
    let mut records = healthy(&claimed);
    let storage = StageName::Storage;
    for record in &mut records {
        if let Record::StageFinished { stage, outcome, .. } = record
            && *stage == storage
        {
            *outcome = Outcome::Fail { reason: "sda: 3 sectors cannot be read".to_owned() };
        }
    }
    let failed = |record: &Record| matches!(record, Record::StageFinished { stage, .. } if *stage == storage);
    let end = records.iter().position(failed).unwrap() + 1;
    records.truncate(end);
    records.push(Record::PipelineFinished { ts_ms: START_MS + 2 });
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    let page = browser.get("/runs/1").await.text;
    assert!(page.contains("sda: 3 sectors cannot be read") && page.contains("fail, held"), "{page}");
    let waive = page.split('"').find(|text| text.starts_with("/runs/1/waive?")).expect("a link").to_owned();
    let asked = browser.get(&waive).await.text;
    assert!(asked.contains("<blockquote>") && asked.contains("sda: 3 sectors"), "{asked}");
    let finding = waive.split_once("finding=").unwrap().1.to_owned();
    let without = browser.post("/runs/1/waive", &[("finding", &finding), ("reason", " ")]).await;
    assert_eq!(without.status, 422);
    let retry = browser.get("/runs/1/retry").await.text;
    assert!(retry.contains("<option value=\"Storage\" selected>"), "{retry}");
    assert_eq!(browser.post("/runs/1/retry", &[("stage", "Nonsense")]).await.status, 400);
    assert_eq!(browser.get("/runs/1/report").await.status, 200);
    let file = browser.request(Method::GET, "/runs/1/files/report").send().await.unwrap();
    assert_eq!(file.headers()["content-disposition"], "attachment; filename=\"run-1-report\"");
    assert!(file.headers()["content-security-policy"].to_str().unwrap().contains("sandbox"));
    assert_eq!(browser.post("/runs/1/release", &[("then", "power_off")]).await.status, 303);
    assert_eq!(lab.detail(RunId(1)).await.summary.state, RunState::Released);
    let waived =
        browser.post("/runs/1/waive", &[("finding", &finding), ("reason", "known, disk goes back")]).await;
    assert_eq!(waived.status, 303, "{}", waived.text);
    let told = lab.detail(RunId(1)).await.waivers.remove(0);
    assert_eq!((told.by.as_str(), told.reason.as_str()), ("alice", "known, disk goes back"));
    assert_eq!(browser.post("/runs/1/abort", &[]).await.status, 409, "it is over");
}

#[tokio::test]
async fn the_word_of_a_proxy_counts_only_where_it_is_configured_and_from_its_address() {
    let ask =
        |browser: &Browser, name: &'static str| browser.request(Method::GET, "/hosts").header("x-user", name);
    let (lab, _) = with_people().await;
    let answer = ask(&Browser::of(&lab), "alice").send().await.unwrap();
    assert!(answer.headers()["location"].to_str().unwrap().starts_with("/login"), "off unless configured");
    for (from, counts) in [("127.0.0.1", true), ("192.0.2.1", false)] {
        let lab = Lab::open_configured(|config| {
            let from = vec![from.parse().unwrap()];
            config.web.proxy_login = Some(crate::config::ProxyLogin { header: "X-User".to_owned(), from });
        })
        .await;
        lab.add_user("alice", "viewer").await;
        let mut browser = Browser::of(&lab);
        let answer = ask(&browser, "alice").send().await.unwrap();
        assert_eq!(answer.headers()["location"] == "/hosts", counts, "{from}");
        if !counts {
            continue;
        }
        browser.take_cookie(&answer);
        assert_eq!(ask(&browser, "alice").send().await.unwrap().status(), 200);
        assert_eq!(browser.get("/hosts").await.status, 303, "the session is good only with the header");
        assert_eq!(ask(&browser, "mallory").send().await.unwrap().status(), 401, "nobody here has that name");
    }
}

#[tokio::test]
async fn a_page_is_told_what_changed() {
    let (lab, browser) = with_people().await;
    let claimed = lab.claimed().await;
    let mut stream = browser.request(Method::GET, "/live/runs/1").send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !text.contains("run-log") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    let stage = claimed.response.plan.stages[0].work.name();
    let progress =
        Record::Progress { stage, sub_step: None, percent: 42.0, eta_ms: Some(65_000), ts_ms: START_MS };
    lab.send(&claimed, 1, vec![started(stage), progress]).await;
    text.clear();
    while !text.contains("42 %") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert!(!text.contains("run-files"), "only what changed: {text}");
    // an open page is no use of the session
    lab.clock.set(START_MS + 11 * 3_600_000);
    let progress = Record::Progress { stage, sub_step: None, percent: 43.0, eta_ms: None, ts_ms: START_MS };
    lab.send(&claimed, 2, vec![progress]).await;
    while !text.contains("43 %") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    lab.clock.set(START_MS + 12 * 3_600_000);
    assert_eq!(browser.get("/runs/1").await.status, 303);
}

#[tokio::test]
async fn a_page_is_told_nothing_more_once_its_user_is_logged_out() {
    let (lab, browser) = with_people().await;
    lab.claimed().await;
    let mut stream = browser.request(Method::GET, "/live/dashboard").send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    assert_eq!(browser.post("/logout", &[]).await.status, 303);
    while stream.chunk().await.unwrap().is_some() {}
    assert_eq!(browser.get("/live/runs/1").await.status, 303);
}
