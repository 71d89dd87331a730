//! Where Debian packages come from: apt's own sources of this host, or what the operator names.
//!
//! Owns: from archive names (`debian`, `debian-security`) to base URLs. Refuses: putting them into the lock file.

use crate::command::{CommandError, Tool};

/// No place to take packages from.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// apt cannot be asked.
    #[error("asking apt for this host's sources")]
    Apt(#[from] CommandError),
    /// apt knows no Debian archive.
    #[error("apt on this host has no Debian archive among its sources; name one with --mirror URL")]
    NoDebian,
}

/// Base URLs of the archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    debian: String,
    security: String,
}

impl Mirror {
    /// A mirror that has the archives `debian` and `debian-security` below one URL.
    pub fn at(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix("/debian").unwrap_or(base);
        Self { debian: format!("{base}/debian"), security: format!("{base}/debian-security") }
    }

    /// What apt on this host uses for Debian. Where it has no security archive, the one beside the main archive.
    pub fn of_this_host() -> Result<Self, MirrorError> {
        let targets = Tool::new("apt-get")
            .args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"])
            .run_text()?;
        Self::from_index_targets(&targets).ok_or(MirrorError::NoDebian)
    }

    fn from_index_targets(targets: &str) -> Option<Self> {
        let places = || {
            let lines = targets.lines().filter_map(|line| line.split_once(' '));
            lines.map(|(uri, release)| (uri.trim_end_matches('/'), release))
        };
        let (debian, _) = places().find(|(uri, _)| uri.ends_with("/debian"))?;
        let security = places()
            .find(|(uri, release)| uri.ends_with("debian-security") && release.ends_with("-security"));
        let beside = Self::at(debian);
        Some(Self {
            security: security.map_or(beside.security, |(uri, _)| uri.to_owned()),
            debian: beside.debian,
        })
    }

    /// Base URL of an archive; none for a name that is neither `debian` nor `debian-security`.
    pub fn base(&self, archive: &str) -> Option<&str> {
        match archive {
            "debian" => Some(&self.debian),
            "debian-security" => Some(&self.security),
            _ => None,
        }
    }

    /// From a URL below this mirror to `archive/path`, percent-escapes undone.
    pub fn locked_path(&self, url: &str) -> Option<String> {
        let archives = [("debian", &self.debian), ("debian-security", &self.security)];
        archives.into_iter().find_map(|(archive, base)| {
            let rest = url.strip_prefix(base.as_str())?.strip_prefix('/')?;
            Some(format!("{archive}/{}", unescape(rest)))
        })
    }

    /// The URL of a locked path below an archive, escaped as apt does.
    pub fn url(&self, archive: &str, path: &str) -> Option<String> {
        Some(format!(
            "{}/{}",
            self.base(archive)?,
            path.replace('%', "%25").replace('+', "%2b").replace('~', "%7e")
        ))
    }
}

/// Undo percent-escapes; a broken escape stays as it is.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let hex = text.get(index + 1..index + 3).filter(|_| byte == b'%');
        if let Some(value) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(value);
            index += 3;
        } else {
            out.push(byte);
            index += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_sources_are_understood() {
        let mirror = Mirror::from_index_targets(
            "https://other.example/node_20.x/ nodistro\nhttp://a.example/debian/ bookworm\n\
             http://b.example/debian/ bookworm-updates\nhttp://s.example/x/debian-security/ bookworm-security\n",
        )
        .unwrap();
        assert_eq!(mirror.base("debian"), Some("http://a.example/debian"));
        assert_eq!(mirror.base("debian-security"), Some("http://s.example/x/debian-security"));
        assert_eq!(mirror.base("ubuntu"), None);
    }

    #[test]
    fn without_a_debian_archive_there_is_no_mirror() {
        assert_eq!(Mirror::from_index_targets("https://other.example/node_20.x/ nodistro\n"), None);
    }

    #[test]
    fn security_is_looked_for_beside_the_main_archive() {
        let mirror = Mirror::from_index_targets("http://a.example/debian/ trixie\n").unwrap();
        assert_eq!(mirror, Mirror::at("http://a.example"));
    }

    #[test]
    fn a_path_survives_the_way_to_a_url_and_back() {
        let mirror = Mirror::at("http://m.example/debian/");
        let path = "pool/main/g/glibc/libc6_2.41-12+deb13u5~x_amd64.deb";
        let url = mirror.url("debian", path).unwrap();
        assert!(url.contains("%2bdeb13u5"), "{url}");
        assert_eq!(mirror.locked_path(&url).unwrap(), format!("debian/{path}"));
    }

    #[test]
    fn security_is_not_taken_for_debian() {
        let mirror = Mirror::at("http://m.example");
        let path = mirror.locked_path("http://m.example/debian-security/pool/a.deb");
        assert_eq!(path.as_deref(), Some("debian-security/pool/a.deb"));
    }
}
