//! `web:` of the configuration.

use std::net::IpAddr;

use serde::Deserialize;
use vetting_judge::duration::HumanDuration;

/// The web page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// How long a log-in is good, however much it is used.
    pub session_lifetime: HumanDuration,
    /// How long it is good unused.
    pub session_idle: HumanDuration,
    /// A reverse proxy that says who somebody is; `None`: everybody logs in by password.
    pub proxy_login: Option<ProxyLogin>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            session_lifetime: HumanDuration::from_ms(7 * 24 * 3_600_000),
            session_idle: HumanDuration::from_ms(12 * 3_600_000),
            proxy_login: None,
        }
    }
}

/// A reverse proxy that says who somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyLogin {
    /// The header with the name of a user, such as `X-Forwarded-User`.
    pub header: String,
    /// The proxy's addresses; from all others the header means nothing.
    pub from: Vec<IpAddr>,
}
