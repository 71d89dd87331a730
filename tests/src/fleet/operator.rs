//! The operator API over one connection: the command line would start a process for each of thousands of machines.

use std::path::Path;

use anyhow::{Context as _, ensure};
use reqwest::{Certificate, RequestBuilder};
use rustls::crypto::{CryptoProvider, ring};
use serde::de::DeserializeOwned;
use vetting_protocol::agent_api::TLS_SERVER_NAME;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{HostCreate, HostView, RunCreate, RunDetail, RunSummary};
use vetting_protocol::secret::Secret;
use vetting_protocol::users::{Role, UserCreate, UserView};

use crate::site::Site;

/// A client of a site's operator API, with its operator's token.
#[derive(Debug, Clone)]
pub struct Operator {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Operator {
    /// Of this site.
    pub fn of(site: &Site) -> anyhow::Result<Self> {
        if CryptoProvider::get_default().is_none() {
            // a second caller may have been faster, which is as good
            let _ = ring::default_provider().install_default();
        }
        let state = site.directory().join("state");
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("{}", path.display()));
        let authority = Certificate::from_pem(&read(&state.join("tls/ca.pem"))?)?;
        let token = String::from_utf8(read(&state.join("operator.token"))?)?.trim().to_owned();
        let address = site.listening().https;
        let http = reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy()
            .resolve(TLS_SERVER_NAME, address)
            .build()?;
        Ok(Self { http, base: format!("https://{TLS_SERVER_NAME}:{}/api/v1", address.port()), token })
    }

    /// Registers a machine.
    pub async fn register(&self, host: &HostCreate) -> anyhow::Result<HostView> {
        self.send(self.http.post(format!("{}/hosts", self.base)).json(host)).await
    }

    /// Adds somebody who may read the web page.
    pub async fn add_viewer(&self, name: &str, password: &str) -> anyhow::Result<UserView> {
        let password = Secret::new(password.to_owned());
        let user = UserCreate { name: name.to_owned(), role: Role::Viewer, password };
        self.send(self.http.post(format!("{}/users", self.base)).json(&user)).await
    }

    /// Starts a run.
    pub async fn start(&self, run: &RunCreate) -> anyhow::Result<RunSummary> {
        self.send(self.http.post(format!("{}/runs", self.base)).json(run)).await
    }

    /// Everything about a run.
    pub async fn run(&self, run: RunId) -> anyhow::Result<RunDetail> {
        self.send(self.http.get(format!("{}/runs/{run}", self.base))).await
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = request.bearer_auth(&self.token).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        ensure!(status.is_success(), "HTTP {status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}
