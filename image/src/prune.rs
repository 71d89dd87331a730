//! Throwing away what the cache holds for nobody.
//!
//! Owns: `used/` of the cache, one list for each kind of build (payload and level), of what its last one used. Refuses:
//! removing anything whose name is not one that the cache gives, anything behind a symbolic link, and the last build's
//! things of any kind. To be called with the cache's lock held.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the cache was not pruned.
#[derive(Debug, thiserror::Error)]
#[error("pruning the cache: {}", path.display())]
pub struct PruneError {
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's answer.
    pub source: io::Error,
}

/// What was thrown away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files and folders.
    pub entries: usize,
    /// Bytes of the files among them, and of those in the folders.
    pub bytes: u64,
}

/// Writes down what a build of this kind used (names of archives, SHA-256 of packages), then removes packages and
/// archives that neither `locked` nor any kind's last build names, and what killed builds left half-done.
pub fn prune(
    cache: &Path,
    kind: &str,
    used: &BTreeSet<String>,
    locked: &BTreeSet<String>,
) -> Result<Pruned, PruneError> {
    let lists = cache.join("used");
    fs::create_dir_all(&lists).map_err(|source| failed(&lists, source))?;
    let list = lists.join(kind);
    let text: Vec<&str> = used.iter().map(String::as_str).collect();
    fs::write(&list, text.join("\n")).map_err(|source| failed(&list, source))?;
    let mut kept = locked.clone();
    for list in entries(&lists)? {
        let text = fs::read_to_string(&list).map_err(|source| failed(&list, source))?;
        kept.extend(text.lines().map(str::to_owned));
    }
    let mut pruned = Pruned::default();
    for (folder, suffixes) in
        [("debs", &[".deb"][..]), ("unpacked", &["", ".new"][..]), ("archives", &[".zst", ".squashfs"][..])]
    {
        for path in entries(&cache.join(folder))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = suffixes.iter().any(|suffix| is_ours(name, suffix));
            let is_kept = kept.contains(name) || kept.contains(name.strip_suffix(".deb").unwrap_or(name));
            if (ours && !is_kept) || (folder == "archives" && name.starts_with(".tmp")) {
                pruned.bytes += remove(&path)?;
                pruned.entries += 1;
            }
        }
    }
    Ok(pruned)
}

/// A SHA-256, then in archives a level, then the suffix.
fn is_ours(name: &str, suffix: &str) -> bool {
    let Some(stem) = name.strip_suffix(suffix) else { return false };
    let (digest, level) = stem.split_once('-').unwrap_or((stem, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) && digits(level)
}

/// What is in a folder; nothing if it is not there or a link.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, PruneError> {
    match fs::symlink_metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(folder, source)),
    }
    let listed =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect());
    listed.map_err(|source| failed(folder, source))
}

/// Removes a file or folder, without following links; gives the bytes it had.
fn remove(path: &Path) -> Result<u64, PruneError> {
    let bytes = size(path)?;
    let metadata = fs::symlink_metadata(path).map_err(|source| failed(path, source))?;
    let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|source| failed(path, source))?;
    Ok(bytes)
}

fn size(path: &Path) -> Result<u64, PruneError> {
    let metadata = fs::symlink_metadata(path).map_err(|source| failed(path, source))?;
    if metadata.is_dir() { entries(path)?.iter().map(|entry| size(entry)).sum() } else { Ok(metadata.len()) }
}

fn failed(path: &Path, source: io::Error) -> PruneError {
    PruneError { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(letter: char) -> String {
        String::from(letter).repeat(64)
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn cache_with(files: &[String]) -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        for file in files {
            let path = cache.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "12345").unwrap();
        }
        cache
    }

    #[test]
    fn what_lock_or_a_last_build_names_stays_and_the_rest_goes() {
        let (locked, used, old) = (digest('a'), digest('b'), digest('c'));
        let stays = [
            format!("debs/{locked}.deb"),
            format!("unpacked/{locked}/usr/bin/x"),
            format!("archives/{used}-19.zst"),
            format!("unpacked/{used}/y"),
            "archives/notes.txt".to_owned(),
            "apt/cache/pkg".to_owned(),
        ];
        let goes = [
            format!("debs/{old}.deb"),
            format!("unpacked/{old}/usr/bin/x"),
            format!("unpacked/{used}.new/half"),
            format!("archives/{used}-3.zst"),
            format!("archives/{old}-19.squashfs"),
            "archives/.tmpAbC/output".to_owned(),
        ];
        let cache = cache_with(&[&stays[..], &goes[..]].concat());
        let used = set(&[&format!("{used}-19.zst"), &used]);
        let pruned = prune(cache.path(), "agent-19", &used, &set(&[&locked])).unwrap();
        assert_eq!(pruned, Pruned { entries: 6, bytes: 30 });
        for file in &stays {
            assert!(cache.path().join(file).exists(), "{file}");
        }
        for file in &goes {
            assert!(!cache.path().join(file).exists(), "{file}");
        }
    }

    #[test]
    fn each_kind_of_build_keeps_its_own_last_one() {
        let files = ['a', 'b', 'c'].map(|letter| format!("archives/{}-19.zst", digest(letter)));
        let cache = cache_with(&files);
        let name = |letter| set(&[&format!("{}-19.zst", digest(letter))]);
        let none = BTreeSet::new();
        fs::create_dir(cache.path().join("used")).unwrap();
        fs::write(cache.path().join("used/bare-19"), format!("{}-19.zst\n", digest('a'))).unwrap();
        assert_eq!(prune(cache.path(), "agent-19", &name('b'), &none).unwrap().entries, 1);
        assert_eq!(prune(cache.path(), "agent-19", &name('b'), &none).unwrap().entries, 0);
        assert!(cache.path().join(&files[0]).exists() && cache.path().join(&files[1]).exists());
        // the next one of a kind lets go of what the one before had used
        assert_eq!(prune(cache.path(), "bare-19", &name('b'), &none).unwrap().entries, 1);
        assert!(!cache.path().join(&files[0]).exists());
    }

    #[test]
    fn nothing_behind_a_link_is_touched() {
        let other = cache_with(&[format!("debs/{}.deb", digest('a'))]);
        let cache = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(other.path().join("debs"), cache.path().join("debs")).unwrap();
        let none = BTreeSet::new();
        assert_eq!(prune(cache.path(), "agent-19", &none, &none).unwrap(), Pruned::default());
        assert!(other.path().join("debs").join(format!("{}.deb", digest('a'))).exists());
    }
}
