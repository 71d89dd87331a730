//! `~/.config/vetting/client.yaml`: which coordinator an operator's own box talks to. Refuses secrets in it: a token is
//! in a file of its own.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use vetting_judge::yaml;

use super::Remote;
use crate::config::ConfigError;

/// Where it is, below the user's folder of configurations.
const BELOW: &str = "vetting/client.yaml";

/// The file. Relative paths in it are relative to its folder.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientConfig {
    /// `https://HOST:PORT`.
    url: String,
    /// The certificate of that coordinator's authority.
    ca: PathBuf,
    /// File with an operator token; absent: VETTING_TOKEN or `--token-file`.
    token_file: Option<PathBuf>,
}

/// Where the file would be, by the XDG base directory specification.
pub fn path() -> Option<PathBuf> {
    let folder = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let configs = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(configs.join(BELOW))
}

/// What the file says, where there is one. What was said on the command line or in the environment comes first.
///
/// # Errors
/// It cannot be read, or has a mistake.
pub fn read(path: &Path, said: &Remote) -> Result<Option<Remote>, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Client { path: path.to_owned(), source }),
    };
    let found: ClientConfig = yaml::parse(&text, "it should hold `url` and `ca`")
        .map_err(|mistake| ConfigError::Mistake { path: path.to_owned(), mistake })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(Some(Remote {
        url: Some(found.url),
        ca: Some(said.ca.clone().unwrap_or_else(|| folder.join(found.ca))),
        token_file: said.token_file.clone().or_else(|| found.token_file.map(|file| folder.join(file))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing_said() -> Remote {
        Remote { url: None, ca: None, token_file: None }
    }

    #[test]
    fn paths_are_relative_to_the_file_and_the_command_line_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.yaml");
        assert!(read(&path, &nothing_said()).unwrap().is_none());
        std::fs::write(&path, "url: https://192.0.2.10:8443\nca: ca.pem\ntoken_file: /run/token\n").unwrap();
        let found = read(&path, &nothing_said()).unwrap().unwrap();
        assert_eq!(found.url.as_deref(), Some("https://192.0.2.10:8443"));
        assert_eq!(found.ca, Some(folder.path().join("ca.pem")));
        assert_eq!(found.token_file, Some(PathBuf::from("/run/token")));
        let said = Remote { token_file: Some(PathBuf::from("other")), ..nothing_said() };
        assert_eq!(read(&path, &said).unwrap().unwrap().token_file, Some(PathBuf::from("other")));
    }

    #[test]
    fn a_token_or_a_typing_mistake_in_it_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.yaml");
        for (text, line) in [("url: x\nca: y\ntoken: z\n", 3), ("url: x\n", 1), ("", 1), ("url: [\n", 1)] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path, &nothing_said()).unwrap_err();
            assert!(
                matches!(&error, ConfigError::Mistake { mistake, .. } if mistake.line == line),
                "{error}"
            );
        }
    }
}
