//! `~/.config/vetting/client.yaml`: which coordinator an operator's own box talks to. Refuses secrets in it: a token is
//! in a file of its own.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use vetting_judge::yaml;

use super::authority::Authority;
use crate::config::ConfigError;

/// Where it is, below the user's folder of configurations.
const BELOW: &str = "vetting/client.yaml";

/// The file. Relative paths in it are relative to its folder.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// `https://HOST:PORT`.
    pub url: String,
    /// The certificate of that coordinator's authority: a file, or `sha256:` and its fingerprint.
    #[serde(deserialize_with = "authority")]
    pub ca: Authority,
    /// File with an operator token.
    pub token_file: Option<PathBuf>,
}

/// Where the file would be, by the XDG base directory specification.
pub fn path() -> Option<PathBuf> {
    let folder = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let configs = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(configs.join(BELOW))
}

/// What the file says, where there is one.
///
/// # Errors
/// It cannot be read, or has a mistake.
pub fn read(path: &Path) -> Result<Option<ClientConfig>, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Client { path: path.to_owned(), source }),
    };
    let found: ClientConfig = yaml::parse(&text, "it should hold `url` and `ca`")
        .map_err(|mistake| ConfigError::Mistake { path: path.to_owned(), mistake })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(Some(ClientConfig {
        url: found.url,
        ca: found.ca.below(folder),
        token_file: found.token_file.map(|file| folder.join(file)),
    }))
}

fn authority<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Authority, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.yaml");
        assert!(read(&path).unwrap().is_none());
        std::fs::write(&path, "url: https://192.0.2.10:8443\nca: ca.pem\ntoken_file: /run/token\n").unwrap();
        let found = read(&path).unwrap().unwrap();
        assert_eq!(found.url, "https://192.0.2.10:8443");
        assert_eq!(found.ca, Authority::Certificate(folder.path().join("ca.pem")));
        assert_eq!(found.token_file, Some(PathBuf::from("/run/token")));
    }

    #[test]
    fn a_token_or_a_typing_mistake_in_it_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.yaml");
        let mistakes = [
            ("url: x\nca: y\ntoken: z\n", 3),
            ("url: x\nca: sha256:12\n", 2),
            ("url: x\n", 1),
            ("", 1),
            ("url: [\n", 1),
        ];
        for (text, line) in mistakes {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(
                matches!(&error, ConfigError::Mistake { mistake, .. } if mistake.line == line),
                "{text:?}: {error}"
            );
        }
    }
}
