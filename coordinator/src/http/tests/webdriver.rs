//! Headless Chromium, driven by ChromeDriver (W3C WebDriver): the real pages as people see them.

#![expect(clippy::disallowed_methods, reason = "a test starts its browser")]

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use serde_json::{Value, json};

/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(20);
/// How long something is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// W3C's name of an element's key.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const STARTED: &str = "started successfully on port ";

/// How often chromedriver is started until it has a port.
const ATTEMPTS: u32 = 3;

/// A browser with one window. Both programs end with it.
pub(super) struct Chromium {
    driver: Child,
    http: Client,
    session: String,
    sticking_out: RefCell<Vec<String>>,
    _profile: tempfile::TempDir,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub name: &'static str,
    pub width: u32,
    pub dark: bool,
    pub print: bool,
}

/// A chromedriver and the port that it chose; none where it gave up.
fn started() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("`apt install chromium chromium-driver`, as `make test` does");
    let stdout = driver.stdout.take().unwrap();
    let line = BufReader::new(stdout).lines().map_while(Result::ok).find(|line| line.contains(STARTED));
    let Some(line) = line else {
        driver.wait().unwrap();
        return None;
    };
    let port = line.split_once(STARTED).unwrap().1.trim_end_matches('.').parse().unwrap();
    Some((driver, port))
}

impl Chromium {
    pub(super) async fn start() -> Self {
        // it takes a port that is free by IPv4 and then wants the same by IPv6, where another test may have it
        let started = (0..ATTEMPTS).find_map(|_| started());
        let (driver, port) = started.expect("chromedriver says its port");
        let http = Client::builder().no_proxy().build().unwrap();
        let profile = tempfile::tempdir().unwrap();
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
        ];
        let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            // the coordinator's authority is its own
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"binary": "/usr/bin/chromium", "args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 60_000, "pageLoad": 60_000},
        }}});
        let base = format!("http://127.0.0.1:{port}/session");
        let answer: Value = http.post(&base).json(&wanted).send().await.unwrap().json().await.unwrap();
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let session = format!("{base}/{id}");
        Self { driver, http, session, sticking_out: RefCell::default(), _profile: profile }
    }

    async fn order(&self, path: &str, body: Value) -> Value {
        let said = self.said(path, &body).await;
        assert!(said["value"]["error"].is_null(), "{path} {body}: {said}");
        said["value"].clone()
    }

    /// What the driver says, errors included.
    async fn said(&self, path: &str, body: &Value) -> Value {
        let answer = self.http.post(format!("{}/{path}", self.session)).json(body).send().await.unwrap();
        answer.json().await.unwrap()
    }

    pub(super) async fn go(&self, url: &str) {
        self.order("url", json!({"url": url})).await;
    }

    async fn element(&self, css: &str) -> String {
        let found = self.order("element", json!({"using": "css selector", "value": css})).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    pub(super) async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.order(&format!("element/{element}/click"), json!({})).await;
    }

    pub(super) async fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.order(&format!("element/{element}/value"), json!({"text": text})).await;
    }

    /// The value of a JavaScript expression.
    pub(super) async fn value(&self, expression: &str) -> Value {
        self.order("execute/sync", json!({"script": format!("return {expression}"), "args": []})).await
    }

    /// Waits until an expression is true, on this page or on the one that a form leads to: what is asked of a page that
    /// is left meanwhile is asked of the next one.
    pub(super) async fn until(&self, expression: &str) {
        let body = json!({"script": format!("return {expression}"), "args": []});
        let look = async {
            while self.said("execute/sync", &body).await["value"] != true {
                tokio::time::sleep(LOOK).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, look).await.is_ok(), "{expression}: {}", self.text().await);
    }

    pub(super) async fn text(&self) -> String {
        self.value("document.body.innerText").await.as_str().unwrap().to_owned()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.order("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Looks at the page so, notes what is wider than the window, and saves what it looks like.
    pub(super) async fn picture(&self, page: &str, look: Look) {
        let size = |height: u64| json!({"width": look.width, "height": height, "deviceScaleFactor": 1, "mobile": look.width < 600});
        let scheme = if look.dark { "dark" } else { "light" };
        let media = if look.print { "print" } else { "" };
        let media = json!({"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media).await;
        self.devtools("Emulation.setDeviceMetricsOverride", size(900)).await;
        // by the browser and not by a script: the page may allow none
        let metrics = self.devtools("Page.getLayoutMetrics", json!({})).await;
        let content = &metrics["cssContentSize"];
        if content["width"] != look.width {
            self.sticking_out.borrow_mut().push(format!("{page} {}: {content}", look.name));
        }
        let height = content["height"].as_u64().unwrap().clamp(600, 6_000);
        self.devtools("Emulation.setDeviceMetricsOverride", size(height)).await;
        let taken = self.devtools("Page.captureScreenshot", json!({"format": "png"})).await;
        let bytes = STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        let folder = pictures();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{page}-{}.png", look.name)), bytes).unwrap();
    }

    /// Whether pages may run scripts.
    pub(super) async fn let_scripts_run(&self, may: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": !may })).await;
    }

    /// The page as it is now, asked of the browser and not of a script.
    pub(super) async fn html(&self) -> String {
        let document = self.devtools("DOM.getDocument", json!({"depth": 0})).await;
        let node = json!({"nodeId": document["root"]["nodeId"]});
        let html = self.devtools("DOM.getOuterHTML", node).await;
        html["outerHTML"].as_str().unwrap().to_owned()
    }

    /// Presses a key, whatever has the focus.
    pub(super) async fn press(&self, key: &str) {
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.order("actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}))
            .await;
    }

    /// The pages that were wider than their window.
    pub(super) fn sticking_out(&self) -> Vec<String> {
        self.sticking_out.borrow().clone()
    }

    /// What the browser complained of: scripts that failed, and what the policy stopped.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let log = self.order("se/log", json!({"type": "browser"})).await;
        let entries = log.as_array().unwrap().iter();
        entries
            .filter(|entry| entry["level"] == "SEVERE")
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Ends the browser.
    pub(super) async fn quit(mut self) {
        let _ = self.http.delete(&self.session).send().await;
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // a test that failed: its browser ends when its driver does
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// `target/web-screenshots`.
fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    target.join("web-screenshots")
}
