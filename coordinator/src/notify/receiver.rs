//! `notifications` of the configuration: who is told, how, and of what. Everything is checked when it is read, but for
//! secrets, which have names here and are looked up when something is sent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use lettre::message::Mailbox;
use reqwest::Url;
use serde::Deserialize;
use vetting_protocol::named_enum;

use super::template::Template;
use super::trigger::Trigger;

/// The whole section.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notifications {
    /// Certificates (PEM) that are trusted besides those of this box, for receivers with an authority of their own.
    pub ca: Option<PathBuf>,
    /// By name.
    pub receivers: BTreeMap<String, Receiver>,
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Words")]
pub struct Receiver {
    /// How.
    pub by: By,
    /// Of what.
    pub on: Vec<Trigger>,
    /// First line.
    pub title: Template,
    /// The rest.
    pub text: Template,
}

/// How somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A POST of JSON, signed.
    Webhook(Webhook),
    /// A message of ntfy.
    Ntfy(Ntfy),
    /// A mail.
    Smtp(Smtp),
}

impl By {
    /// The word of the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Ntfy(_) => "ntfy",
            Self::Smtp(_) => "smtp",
        }
    }
}

/// A receiver as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    webhook: Option<Webhook>,
    ntfy: Option<Ntfy>,
    smtp: Option<Smtp>,
    on: Option<Vec<Trigger>>,
    title: Option<Template>,
    text: Option<Template>,
}

impl TryFrom<Words> for Receiver {
    type Error = String;

    fn try_from(words: Words) -> Result<Self, String> {
        let by = match (words.webhook, words.ntfy, words.smtp) {
            (Some(webhook), None, None) => By::Webhook(webhook),
            (None, Some(ntfy), None) => By::Ntfy(ntfy),
            (None, None, Some(smtp)) => By::Smtp(smtp),
            _ => return Err("a receiver has one of webhook, ntfy and smtp".to_owned()),
        };
        let on = words.on.unwrap_or_else(Trigger::defaults);
        if on.is_empty() {
            return Err(
                "`on` is empty, so nothing would ever be told; leave it out for what is usual".to_owned()
            );
        }
        let template = |given: Option<Template>, usual: &str| match given {
            Some(template) => Ok(template),
            None => Template::try_from(usual.to_owned()),
        };
        Ok(Self {
            by,
            on,
            title: template(words.title, "{headline}: {subject}")?,
            text: template(words.text, "{message}\n{time}")?,
        })
    }
}

/// A POST of JSON, signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WebhookWords")]
pub struct Webhook {
    /// Where to.
    pub url: Address,
    /// Name of the secret that signs.
    pub secret: Option<String>,
}

/// Where a webhook goes: some addresses are secrets themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// As written.
    Url(Url),
    /// The name of the secret that is the URL.
    Secret(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookWords {
    url: Option<String>,
    url_secret: Option<String>,
    secret: Option<String>,
}

impl TryFrom<WebhookWords> for Webhook {
    type Error = String;

    fn try_from(words: WebhookWords) -> Result<Self, String> {
        let url = match (words.url, words.url_secret) {
            (Some(url), None) => Address::Url(http_url(&url)?),
            (None, Some(name)) => Address::Secret(name),
            _ => return Err("a webhook has one of url and url_secret".to_owned()),
        };
        Ok(Self { url, secret: words.secret })
    }
}

/// An http or https URL without a password in it.
pub(super) fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is no URL ({error}); write https://HOST/PATH"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("the URL should begin with https:// or http:// and name a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a password does not belong into a URL; name a secret instead".to_owned());
    }
    Ok(url)
}

/// A message of ntfy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NtfyWords")]
pub struct Ntfy {
    /// The server.
    pub server: Url,
    /// The topic.
    pub topic: String,
    /// Name of the secret that is the access token.
    pub token: Option<String>,
    /// 1 to 5; absent: by the event's level.
    pub priority: Option<u8>,
    /// Besides the one of the verdict.
    pub tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NtfyWords {
    server: Option<String>,
    topic: String,
    token: Option<String>,
    priority: Option<u8>,
    #[serde(default)]
    tags: Vec<String>,
}

impl TryFrom<NtfyWords> for Ntfy {
    type Error = String;

    fn try_from(words: NtfyWords) -> Result<Self, String> {
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if words.topic.is_empty() || words.topic.len() > 64 || !plain(&words.topic) {
            return Err("a topic has 1 to 64 letters, digits, `-` and `_`".to_owned());
        }
        if words.priority.is_some_and(|priority| !(1..=5).contains(&priority)) {
            return Err("a priority is 1 (least) to 5".to_owned());
        }
        let server = http_url(words.server.as_deref().unwrap_or("https://ntfy.sh"))?;
        let NtfyWords { topic, token, priority, tags, .. } = words;
        Ok(Self { server, topic, token, priority, tags })
    }
}

named_enum! {
    /// How a mail server is spoken to.
    SmtpTls, "starttls, tls or none" {
        /// TLS from the first byte, usually port 465.
        Tls = "tls",
        /// TLS after a word in the clear, usually port 587. A server that does not offer it gets nothing.
        Starttls = "starttls",
        /// No TLS: only to a server on this box.
        None = "none",
    }
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SmtpWords")]
pub struct Smtp {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub tls: SmtpTls,
    /// Who logs in, and the name of the secret that is the password.
    pub login: Option<(String, String)>,
    /// From whom.
    pub from: Mailbox,
    /// To whom.
    pub to: Vec<Mailbox>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SmtpWords {
    host: String,
    port: Option<u16>,
    #[serde(default = "SmtpTls::starttls")]
    tls: SmtpTls,
    user: Option<String>,
    password: Option<String>,
    from: String,
    to: Vec<String>,
}

impl SmtpTls {
    fn starttls() -> Self {
        Self::Starttls
    }
}

impl TryFrom<SmtpWords> for Smtp {
    type Error = String;

    fn try_from(words: SmtpWords) -> Result<Self, String> {
        let on_this_box = words.host == "localhost"
            || words.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if words.tls == SmtpTls::None && !on_this_box {
            return Err("without TLS mail goes only to a server on this box; use starttls or tls".to_owned());
        }
        let login = match (words.user, words.password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => return Err("user and password (the name of a secret) go together".to_owned()),
        };
        let mailbox = |text: &str| {
            text.parse::<Mailbox>().map_err(|error| format!("`{text}` is no mail address ({error})"))
        };
        if words.to.is_empty() {
            return Err("`to` names nobody".to_owned());
        }
        let port = words.port.unwrap_or(match words.tls {
            SmtpTls::Tls => 465,
            SmtpTls::Starttls => 587,
            SmtpTls::None => 25,
        });
        Ok(Self {
            host: words.host,
            port,
            tls: words.tls,
            login,
            from: mailbox(&words.from)?,
            to: words.to.iter().map(|to| mailbox(to)).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use vetting_judge::yaml;

    use super::*;

    fn read(receiver: &str) -> Result<Notifications, yaml::Mistake> {
        yaml::parse(&format!("receivers:\n  x:\n    {receiver}\n"), "receivers")
    }

    #[test]
    fn what_can_be_sent_can_be_written() {
        for receiver in [
            "webhook: {url: 'https://example.org/hook', secret: hook}",
            "webhook: {url_secret: chat}",
            "ntfy: {topic: lab, token: phone, priority: 5, tags: [server]}",
            "ntfy: {server: 'http://192.0.2.1:8080', topic: lab}",
            "smtp: {host: mail.example.org, user: lab, password: mail, from: 'Lab <lab@example.org>', to: [a@example.org]}",
            "smtp: {host: 127.0.0.1, tls: none, from: lab@example.org, to: [a@example.org]}",
            "ntfy: {topic: lab}\n    on: [fail, 'event:hold_*']\n    title: '{host}'",
        ] {
            assert!(read(receiver).is_ok(), "{receiver}: {:?}", read(receiver));
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (receiver, word) in [
            ("on: [fail]", "one of webhook"),
            ("ntfy: {topic: lab}\n    webhook: {url: 'https://example.org'}", "one of webhook"),
            ("webhook: {url: 'ftp://example.org'}", "https://"),
            ("webhook: {url: 'https://lab:s3cret@example.org'}", "password"),
            ("webhook: {url: 'https://example.org', url_secret: x}", "one of url"),
            ("ntfy: {topic: 'a/b'}", "topic"),
            ("ntfy: {topic: lab, priority: 6}", "1 (least) to 5"),
            ("ntfy: {topic: lab}\n    on: []", "empty"),
            ("ntfy: {topic: lab}\n    on: [broken]", "nothing to be told of"),
            ("ntfy: {topic: lab}\n    title: '{hots}'", "{hots}"),
            ("smtp: {host: mail.example.org, tls: none, from: a@b, to: [a@b]}", "on this box"),
            ("smtp: {host: mail.example.org, user: lab, from: a@b, to: [a@b]}", "go together"),
            ("smtp: {host: mail.example.org, from: nobody, to: [a@b]}", "nobody"),
            ("smtp: {host: mail.example.org, from: a@b, to: []}", "nobody"),
            ("smtp: {host: mail.example.org, from: a@b, to: [a@b], passwd: x}", "passwd"),
        ] {
            let mistake = read(receiver).unwrap_err();
            assert!(mistake.line >= 2, "{receiver}: {mistake}");
            assert!(mistake.to_string().contains(word), "{receiver}: {mistake}");
            assert!(!mistake.to_string().contains("s3cret"), "{mistake}");
        }
    }
}
