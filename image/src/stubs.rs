//! Stub libraries: what stands in for libraries that a tool links but no stage uses (Ceph, Gluster, NFS in fio; GPU
//! and `IPsec` libraries in stress-ng).
//!
//! Owns: which symbols a stub must have, and compiling it. Refuses: a stub nobody needs, since that is a stale line
//! in `packages.yaml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::closure::Closure;
use crate::command::{CommandError, Tool};
use crate::elf::ElfFile;

/// Why a stub cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StubError {
    /// Nothing in the image needs the library.
    #[error("stub {library} of initramfs/packages.yaml: nothing in the image needs it")]
    NotNeeded {
        /// Its soname.
        library: String,
    },
    /// The compiler failed.
    #[error("compiling the stub of {library}")]
    Compile {
        /// Its soname.
        library: String,
        /// What it said.
        source: CommandError,
    },
    /// A working file failed.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// A symbol of a stub: its version, if versioned, and its size if it is data.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Symbol {
    version: Option<String>,
    data_bytes: Option<u64>,
}

/// Compile the stub of `library` in `work`; returns its bytes.
pub fn compile(library: &str, closure: &Closure, work: &Path) -> Result<Vec<u8>, StubError> {
    let symbols =
        symbols(library, closure).ok_or_else(|| StubError::NotNeeded { library: library.to_owned() })?;
    let (source, versions) = (work.join("stub.c"), work.join("stub.map"));
    let output = work.join(library);
    write(&source, &source_text(&symbols))?;
    let mut cc = Tool::new("cc")
        .args([
            "-w",
            "-Os",
            "-shared",
            "-nostdlib",
            "-fPIC",
            "-fno-asynchronous-unwind-tables",
            "-fno-builtin",
            "-s",
        ])
        .args(["-Wl,--build-id=none", "-Wl,--hash-style=gnu"])
        .arg(format!("-Wl,-soname,{library}"));
    let map = version_map(&symbols);
    if !map.is_empty() {
        write(&versions, &map)?;
        cc = cc.arg(format!("-Wl,--version-script={}", versions.display()));
    }
    cc.arg("-o")
        .args([&output, &source])
        .run()
        .map_err(|source| StubError::Compile { library: library.to_owned(), source })?;
    std::fs::read(&output).map_err(|source| StubError::File { path: output, source })
}

/// What the files of the closure import from `library`; none if no file needs it.
fn symbols(library: &str, closure: &Closure) -> Option<BTreeMap<String, Symbol>> {
    let exports: BTreeMap<&str, Option<u64>> = closure
        .stubbed
        .get(library)?
        .iter()
        .map(|export| (export.name.as_str(), export.data_bytes))
        .collect();
    let users = closure.elf_files.values().filter(|file| file.needed.iter().any(|needed| needed == library));
    let mut symbols = BTreeMap::new();
    for ElfFile { imports, .. } in users {
        for import in imports {
            let Some(&data_bytes) = exports.get(import.name.as_str()) else { continue };
            let version = match &import.version {
                Some((_, from)) if from != library => continue,
                Some((version, _)) => Some(version.clone()),
                None => None,
            };
            symbols.insert(import.name.clone(), Symbol { version, data_bytes });
        }
    }
    Some(symbols)
}

fn source_text(symbols: &BTreeMap<String, Symbol>) -> String {
    let lines = symbols.iter().map(|(name, symbol)| match symbol.data_bytes {
        Some(bytes) => format!("char {name}[{}] = {{0}};\n", bytes.max(1)),
        None => format!("int {name}(void) {{ return -38; }}\n"),
    });
    lines.collect()
}

fn version_map(symbols: &BTreeMap<String, Symbol>) -> String {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, symbol) in symbols {
        if let Some(version) = &symbol.version {
            versions.entry(version).or_default().insert(name);
        }
    }
    let blocks = versions.into_iter().map(|(version, names)| {
        let names: Vec<&str> = names.into_iter().collect();
        format!("{version} {{ global: {}; }};\n", names.join(";"))
    });
    blocks.collect()
}

fn write(path: &Path, text: &str) -> Result<(), StubError> {
    std::fs::write(path, text).map_err(|source| StubError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{self, Export, Import};

    fn closure() -> Closure {
        let mut closure = Closure::default();
        let export = |name: &str, data_bytes| Export { name: name.to_owned(), data_bytes };
        closure.stubbed.insert(
            "libdemo.so.1".to_owned(),
            vec![
                export("demo_open", None),
                export("demo_table", Some(24)),
                export("unused", None),
                export("puts", None),
            ],
        );
        let import = |name: &str, version: Option<(&str, &str)>| Import {
            name: name.to_owned(),
            version: version.map(|(version, library)| (version.to_owned(), library.to_owned())),
        };
        let user = ElfFile {
            interpreter: None,
            needed: vec!["libdemo.so.1".to_owned()],
            imports: vec![
                import("demo_open", Some(("DEMO_1.2", "libdemo.so.1"))),
                import("demo_table", None),
                import("puts", Some(("GLIBC_2.2.5", "libc.so.6"))),
            ],
            exports: Vec::new(),
        };
        closure.elf_files.insert("usr/bin/user".to_owned(), user);
        closure
    }

    #[test]
    fn the_stub_has_what_is_imported_and_no_more() {
        let work = tempfile::tempdir().unwrap();
        let bytes = compile("libdemo.so.1", &closure(), work.path()).unwrap();
        let path = work.path().join("again");
        std::fs::write(&path, &bytes).unwrap();
        let exports = elf::read(&path).unwrap().unwrap().exports;
        let data =
            |name: &str| exports.iter().find(|export| export.name == name).map(|export| export.data_bytes);
        assert_eq!(data("demo_open"), Some(None));
        assert_eq!(data("demo_table"), Some(Some(24)));
        assert_eq!((data("unused"), data("puts")), (None, None));
        assert_eq!(bytes, compile("libdemo.so.1", &closure(), work.path()).unwrap());
    }

    #[test]
    fn a_stub_nobody_needs_is_refused() {
        let work = tempfile::tempdir().unwrap();
        let error = compile("libother.so.1", &closure(), work.path()).unwrap_err();
        assert!(matches!(error, StubError::NotNeeded { .. }));
    }
}
