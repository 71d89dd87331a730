//! Where Debian packages come from: apt's own sources of this host, or what the operator names.
//!
//! Owns: from archive names (`debian`, `debian-security`) to base URLs. Refuses: putting them into the lock file.

use crate::command::{CommandError, Tool};

const DEFAULT_MIRROR: &str = "http://deb.debian.org";

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

    /// What apt on this host uses for Debian; Debian's own address for what it does not have.
    pub fn of_this_host() -> Result<Self, CommandError> {
        let targets = Tool::new("apt-get")
            .args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"])
            .run_text()?;
        Ok(Self::from_index_targets(&targets))
    }

    fn from_index_targets(targets: &str) -> Self {
        let mut mirror = Self::at(DEFAULT_MIRROR);
        let (mut debian_found, mut security_found) = (false, false);
        for line in targets.lines() {
            let Some((uri, release)) = line.split_once(' ') else { continue };
            let uri = uri.trim_end_matches('/');
            let (found, place) = if uri.ends_with("/debian") {
                (&mut debian_found, &mut mirror.debian)
            } else if uri.ends_with("debian-security") && release.ends_with("-security") {
                (&mut security_found, &mut mirror.security)
            } else {
                continue;
            };
            if !*found {
                *found = true;
                uri.clone_into(place);
            }
        }
        mirror
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
        );
        assert_eq!(mirror.base("debian"), Some("http://a.example/debian"));
        assert_eq!(mirror.base("debian-security"), Some("http://s.example/x/debian-security"));
        assert_eq!(mirror.base("ubuntu"), None);
    }

    #[test]
    fn no_sources_mean_debians_own_address() {
        assert_eq!(Mirror::from_index_targets(""), Mirror::at(DEFAULT_MIRROR));
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
