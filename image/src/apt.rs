//! Resolving packages with apt under a private configuration: its own sources, an empty package status, the host's
//! proxy settings. The host's package database is neither read nor written.
//!
//! Owns: the private configuration and reading apt's answer. Refuses: installing; a package whose SHA-256 apt does
//! not know from a signed index.

use std::path::{Path, PathBuf};

use crate::command::{CommandError, Tool};
use crate::lock::LockedPackage;
use crate::mirror::Mirror;
use crate::recipe::{Recipe, Suite};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Why packages could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// A file of the private configuration could not be written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// apt failed.
    #[error("resolving packages with apt")]
    Apt {
        /// What it said.
        #[from]
        source: CommandError,
    },
    /// `packages.yaml` names an archive nobody knows.
    #[error("packages.yaml: archive {archive:?} is neither debian nor debian-security")]
    UnknownArchive {
        /// The archive.
        archive: String,
    },
    /// A line of apt's answer is not understood.
    #[error("apt's answer {line:?}: {problem}")]
    Answer {
        /// The line.
        line: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Resolve the recipe's packages against the mirror; `directory` keeps the private configuration and indexes.
pub fn resolve(recipe: &Recipe, mirror: &Mirror, directory: &Path) -> Result<Vec<LockedPackage>, AptError> {
    let configuration = write_configuration(&recipe.packages.suites, mirror, directory)?;
    Tool::new("apt-get").env("APT_CONFIG", &configuration).args(["-qq", "update"]).run()?;
    let answer = Tool::new("apt-get")
        .env("APT_CONFIG", &configuration)
        .args(["install", "--print-uris", "-qq", "-y", "--no-install-recommends"])
        .args(recipe.requested_packages())
        .run_text()?;
    let mut packages = Vec::new();
    for line in answer.lines().filter(|line| !line.trim().is_empty()) {
        let package = parse_uri_line(line, mirror)
            .map_err(|problem| AptError::Answer { line: line.to_owned(), problem })?;
        if !recipe.packages.leave_out.contains(&package.name) {
            packages.push(package);
        }
    }
    packages.sort();
    Ok(packages)
}

fn write_configuration(suites: &[Suite], mirror: &Mirror, directory: &Path) -> Result<PathBuf, AptError> {
    let directory = std::path::absolute(directory)
        .map_err(|source| AptError::File { path: directory.to_owned(), source })?;
    for folder in ["lists/partial", "cache/archives/partial"] {
        let path = directory.join(folder);
        std::fs::create_dir_all(&path).map_err(|source| AptError::File { path, source })?;
    }
    let mut sources = Vec::new();
    for Suite { archive, suite, components } in suites {
        let base =
            mirror.base(archive).ok_or_else(|| AptError::UnknownArchive { archive: archive.clone() })?;
        let components = components.join(" ");
        sources.push(format!("deb [arch=amd64 signed-by={KEYRING}] {base} {suite} {components}\n"));
    }
    let root = directory.display();
    let configuration = format!(
        "Dir::Etc::sourcelist \"{root}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::State \"{root}\";\n\
         Dir::State::lists \"{root}/lists\";\n\
         Dir::State::status \"{root}/status\";\n\
         Dir::Cache \"{root}/cache\";\n\
         APT::Architecture \"amd64\";\n\
         APT::Architectures \"amd64\";\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::ForceHash \"SHA256\";\n"
    );
    for (name, text) in
        [("sources.list", sources.concat()), ("status", String::new()), ("apt.conf", configuration)]
    {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|source| AptError::File { path, source })?;
    }
    Ok(directory.join("apt.conf"))
}

/// One line of `--print-uris`: `'URL' FILE SIZE SHA256:HASH`, where FILE is `name_version_arch.deb`.
fn parse_uri_line(line: &str, mirror: &Mirror) -> Result<LockedPackage, &'static str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let &[url, file, size, hash] = fields.as_slice() else { return Err("not four fields") };
    let url = url.trim_matches('\'');
    let mut parts = file.split('_');
    let (Some(name), Some(version)) = (parts.next(), parts.next()) else {
        return Err("the file name has no version");
    };
    Ok(LockedPackage {
        name: name.to_owned(),
        version: version.replace("%3a", ":"),
        path: mirror.locked_path(url).ok_or("the URL is not below the mirror")?,
        size_bytes: size.parse().map_err(|_| "the size is not a number")?,
        sha256: hash.strip_prefix("SHA256:").ok_or("no SHA-256")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "'http://m.example/debian/pool/main/g/glibc/libc6_2.41-12%2bdeb13u5_amd64.deb' \
                        libc6_1%3a2.41-12+deb13u5_amd64.deb 2850108 SHA256:b59b06";

    #[test]
    fn apts_answer_is_read() {
        let package = parse_uri_line(LINE, &Mirror::at("http://m.example")).unwrap();
        assert_eq!((package.name.as_str(), package.version.as_str()), ("libc6", "1:2.41-12+deb13u5"));
        assert_eq!(package.path, "debian/pool/main/g/glibc/libc6_2.41-12+deb13u5_amd64.deb");
        assert_eq!(package.size_bytes, 2_850_108);
    }

    #[test]
    fn a_weaker_hash_is_refused() {
        let line = LINE.replace("SHA256:", "MD5Sum:");
        assert_eq!(parse_uri_line(&line, &Mirror::at("http://m.example")), Err("no SHA-256"));
    }

    #[test]
    fn another_mirrors_url_is_refused() {
        assert!(parse_uri_line(LINE, &Mirror::at("http://other.example")).is_err());
    }
}
