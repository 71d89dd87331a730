//! The URL of an HTTP proxy. May hold a user name and a password, so it never prints them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::secret::Secret;

/// An HTTP proxy: `http://HOST:PORT` or `https://HOST:PORT`, with `USER:PASSWORD@` before the host where it asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Proxy {
    /// Whether the proxy itself is spoken to over TLS.
    pub tls: bool,
    /// `USER:PASSWORD`, as written in the URL.
    pub credentials: Option<Secret>,
    /// Where it listens.
    pub endpoint: Endpoint,
}

impl Proxy {
    /// The whole URL, with the password: for the one place that connects to it.
    pub fn url(&self) -> Secret {
        let scheme = if self.tls { "https" } else { "http" };
        Secret::new(match &self.credentials {
            Some(credentials) => format!("{scheme}://{}@{}", credentials.expose(), self.endpoint),
            None => format!("{scheme}://{}", self.endpoint),
        })
    }
}

/// Without the credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.endpoint)
    }
}

/// A text that is no proxy URL. The text is not told: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the URL of an HTTP proxy, such as http://proxy.example:3128; its port must be written")]
pub struct ProxyError;

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(ProxyError),
        };
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, rest),
        };
        let allowed =
            |character: char| character.is_ascii_graphic() && !matches!(character, '/' | '?' | '#' | '@');
        if credentials.is_some_and(|text| text.is_empty() || !text.chars().all(allowed)) {
            return Err(ProxyError);
        }
        // the endpoint's parser would take a scheme of its own
        if authority.contains("://") {
            return Err(ProxyError);
        }
        let endpoint = authority.parse().map_err(|_| ProxyError)?;
        Ok(Self { tls, credentials: credentials.map(|text| Secret::new(text.to_owned())), endpoint })
    }
}

impl TryFrom<String> for Proxy {
    type Error = ProxyError;

    fn try_from(text: String) -> Result<Self, ProxyError> {
        text.parse()
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        proxy.url().expose().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_password_is_kept_and_never_shown() {
        let proxy: Proxy = "http://ann:s3cr3t@proxy.example:3128/".parse().unwrap();
        assert_eq!(proxy.url().expose(), "http://ann:s3cr3t@proxy.example:3128");
        assert_eq!(proxy.to_string(), "http://proxy.example:3128");
        assert!(!format!("{proxy:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_telling_it() {
        for text in [
            "",
            "proxy:3128",
            "ftp://proxy:21",
            "http://proxy",
            "http://@proxy:1",
            "http://a b@proxy:1",
            "http://https://p:1",
        ] {
            assert_eq!(text.parse::<Proxy>(), Err(ProxyError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_reads_writes_alike(text in "https?://([a-z]{1,5}:[!-~]{0,8}@)?[a-z.]{1,9}:[0-9]{1,6}") {
            if let Ok(proxy) = text.parse::<Proxy>() {
                prop_assert_eq!(proxy.url().expose().parse::<Proxy>(), Ok(proxy.clone()));
            }
        }
    }
}
