//! Passwords of BMCs and secrets of notifications by name: from a file that only its owner reads, or from the environment. Never in the database.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use vetting_judge::yaml;
use vetting_protocol::secret::Secret;

/// What the environment's names begin with: `VETTING_POWER_RACK1` is the secret `rack1`.
const PREFIX: &str = "VETTING_POWER_";

/// A password that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nobody knows it.
    #[error(
        "there is no secret `{name}`: write it into the file that `power.secrets` names, or set {PREFIX}{}",
        upper(name)
    )]
    Unknown {
        /// Its name.
        name: String,
    },
    /// The file cannot be read.
    #[error("the secrets in {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("others than its owner may read {}: `chmod 600` it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It has a mistake. The text is not quoted: it holds passwords.
    #[error("{}: a mistake in line {line}: it should hold lines like `rack1: PASSWORD`", path.display())]
    Mistake {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
}

/// Where passwords are. They are read when they are needed, so that a change needs no restart.
#[derive(Debug, Clone, Default)]
pub struct PowerSecrets {
    /// YAML: names and passwords.
    pub file: Option<PathBuf>,
}

fn upper(name: &str) -> String {
    let letter = |character: char| {
        if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' }
    };
    name.chars().map(letter).collect()
}

impl PowerSecrets {
    /// The password of that name: the environment's, or else the file's.
    pub fn get(&self, name: &str) -> Result<Secret, SecretError> {
        if let Some(text) =
            std::env::var(format!("{PREFIX}{}", upper(name))).ok().filter(|text| !text.is_empty())
        {
            return Ok(Secret::new(text));
        }
        let unknown = || SecretError::Unknown { name: name.to_owned() };
        let path = self.file.clone().ok_or_else(unknown)?;
        let read = |source| SecretError::Read { path: path.clone(), source };
        if std::fs::metadata(&path).map_err(read)?.mode() & 0o077 != 0 {
            return Err(SecretError::Open { path });
        }
        let text = std::fs::read_to_string(&path).map_err(read)?;
        let mistake = |line| SecretError::Mistake { path: path.clone(), line };
        let all: BTreeMap<String, String> =
            yaml::parse(&text, "it should hold names and passwords").map_err(|error| mistake(error.line))?;
        all.get(name).map(|password| Secret::new(password.clone())).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_may_read_is_refused_and_a_mistake_is_told_without_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.yaml");
        let secrets = PowerSecrets { file: Some(path.clone()) };
        std::fs::write(&path, "rack1: s3cr3t\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(secrets.get("rack1"), Err(SecretError::Open { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secrets.get("rack1").unwrap().expose(), "s3cr3t");
        let unknown = secrets.get("rack-2").unwrap_err().to_string();
        assert!(unknown.contains("VETTING_POWER_RACK_2"), "{unknown}");
        std::fs::write(&path, "rack1: [s3cr3t\n").unwrap();
        let mistake = secrets.get("rack1").unwrap_err();
        assert!(matches!(mistake, SecretError::Mistake { .. }));
        assert!(!mistake.to_string().contains("s3cr3t"), "{mistake}");
    }
}
