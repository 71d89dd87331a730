//! The web page where there is much to show: the dashboard of a thousand machines under load, and the page of a run with
//! a million samples. Each is asked for over one connection that stays open, as a browser's does, and its whole answer
//! counts: reading the database, making the page, encryption and the loopback.
//!
//! What is on the other side of the ratio is a time that was promised and not a program.

use std::path::Path;

use anyhow::{Context as _, ensure};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use vetting_agent::clock;
use vetting_protocol::agent_api::{Record, TLS_SERVER_NAME};
use vetting_protocol::ids::StageName;

use super::fleet::{Fleet, Size};
use super::{Comparison, Goal, Round};
use crate::fleet::{Operator, runtime};
use crate::site::{Built, Site};

/// Machines of the dashboard.
const MACHINES: u32 = 1_000;
/// Sampling rounds of the long run: a million samples of sixty sensors.
const ROUNDS: u32 = 16_667;
/// What a page may take, ms.
const GOAL_MS: f64 = 200.0;
/// Times that each page is asked for.
const LOOKS: usize = 11;
const NAME: &str = "bench";
const PASSWORD: &str = "correct-horse-battery";

/// Measures both pages.
pub fn compare(built: &Built, folder: &Path) -> anyhow::Result<Vec<Comparison>> {
    Ok(vec![dashboard(built, &folder.join("dashboard"))?, long_run(built, &folder.join("run"))?])
}

fn dashboard(built: &Built, folder: &Path) -> anyhow::Result<Comparison> {
    let mut fleet = Fleet::boot(built, folder, Size { rounds: 1, ..Size::of(MACHINES) })?;
    let progress = Record::Progress {
        stage: StageName::CpuStress,
        sub_step: None,
        percent: 42.0,
        eta_ms: Some(252_000),
        ts_ms: clock::now_ms(),
    };
    fleet.say(&[progress])?;
    fleet.steady()?;
    let (rounds, page) = looks(fleet.site(), "/")?;
    let tiles = page.matches("<li class=\"tile").count();
    ensure!(tiles == MACHINES as usize, "the dashboard has {tiles} tiles");
    for word in [" left", "°C", "CPUStress"] {
        let found = page.matches(word).count();
        ensure!(found >= MACHINES as usize, "`{word}` is {found} times on the dashboard");
    }
    Ok(Comparison {
        subject: "dashboard, 1000 machines",
        ours: "the whole page",
        theirs: "what it may take",
        unit: "ms",
        rounds,
        goal: Goal::AtMost(1.0),
    })
}

fn long_run(built: &Built, folder: &Path) -> anyhow::Result<Comparison> {
    let mut fleet = Fleet::boot(built, folder, Size::of(1))?;
    let samples = fleet.fill(ROUNDS)?;
    let (rounds, page) = looks(fleet.site(), "/runs/1")?;
    ensure!(samples >= 1_000_000 && page.contains("CPUStress"), "{samples} samples: {page}");
    Ok(Comparison {
        subject: "run, a million samples",
        ours: "the whole page",
        theirs: "what it may take",
        unit: "ms",
        rounds,
        goal: Goal::AtMost(1.0),
    })
}

/// Somebody logs in and asks for a page again and again. Also the page, as it was last.
fn looks(site: &Site, path: &str) -> anyhow::Result<(Vec<Round>, String)> {
    runtime()?.block_on(async {
        Operator::of(site)?.add_viewer(NAME, PASSWORD).await?;
        let visitor = Visitor::log_in(site).await?;
        let (mut rounds, mut page) = (Vec::new(), String::new());
        for _ in 0..LOOKS {
            let begin = clock::monotonic();
            page = visitor.get(path).await?;
            rounds.push(Round { ours: begin.elapsed().as_secs_f64() * 1_000.0, theirs: GOAL_MS });
        }
        Ok((rounds, page))
    })
}

/// Somebody with a browser.
struct Visitor {
    http: Client,
    base: String,
    cookie: String,
}

impl Visitor {
    async fn log_in(site: &Site) -> anyhow::Result<Self> {
        let authority = std::fs::read(site.directory().join("state/tls/ca.pem"))?;
        let address = site.listening().https;
        let http = Client::builder()
            .tls_certs_only([Certificate::from_pem(&authority)?])
            .no_proxy()
            .redirect(Policy::none())
            .resolve(TLS_SERVER_NAME, address)
            .build()?;
        let base = format!("https://{TLS_SERVER_NAME}:{}", address.port());
        let form = format!("name={NAME}&password={PASSWORD}&next=%2F");
        let request = http.post(format!("{base}/login")).header("origin", &base);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer = request.send().await?;
        let set = answer.headers().get("set-cookie").context("the log-in was refused")?.to_str()?;
        let cookie = set.split(';').next().unwrap_or_default().to_owned();
        Ok(Self { http, base, cookie })
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let request = self.http.get(format!("{}{path}", self.base)).header("accept", "text/html");
        let answer = request.header("cookie", &self.cookie).send().await?;
        ensure!(answer.status().as_u16() == 200, "{path}: HTTP {}", answer.status());
        Ok(answer.text().await?)
    }
}
