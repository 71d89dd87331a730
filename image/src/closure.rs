//! Programs and everything they need to start: interpreter and libraries, by name, out of the unpacked packages.
//!
//! Owns: the walk over needed libraries. Refuses: a needed library that no package has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::elf::{self, ElfError, ElfFile, Export};
use crate::index::Index;
use crate::tree::canonical;

/// Folders of libraries, in order of search. `ceph` is where its libraries' run path leads.
const LIBRARY_FOLDERS: [&str; 4] =
    ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib", "usr/lib/x86_64-linux-gnu/ceph"];
const PROGRAM_FOLDERS: [&str; 2] = ["usr/bin", "usr/sbin"];

/// Why a closure is not complete.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// No package has the program.
    #[error("no package has the program {program}, wanted of {package}; see initramfs/packages.yaml")]
    NoProgram {
        /// Program name.
        program: String,
        /// Package that should have it.
        package: String,
    },
    /// No package has a library.
    #[error(
        "{user} needs {library}, which no package has; is it in leave_out of initramfs/packages.yaml, or is its package missing in the driver's folder?"
    )]
    NoLibrary {
        /// Soname or path.
        library: String,
        /// Who needs it.
        user: String,
    },
    /// A file cannot be read.
    #[error("reading {path} of the image")]
    Elf {
        /// Path in the image.
        path: String,
        /// What is wrong.
        source: ElfError,
    },
    /// A program of our own cannot be read.
    #[error("reading {program}; `make build` makes it")]
    Own {
        /// Path on this host.
        program: String,
        /// What is wrong.
        source: ElfError,
    },
    /// A program of our own is linked against something newer than the image has.
    #[error(
        "{program} needs {version} of {library}, which is newer than the image's; build it on a release of Debian \
         that is no newer than the image's"
    )]
    TooNew {
        /// Path on this host.
        program: String,
        /// Version of a symbol.
        version: String,
        /// Soname.
        library: String,
    },
}

/// The files needed.
#[derive(Debug, Clone, Default)]
pub struct Closure {
    /// Canonical paths of files and links.
    pub paths: BTreeSet<String>,
    /// What was read of each ELF file.
    pub elf_files: BTreeMap<String, ElfFile>,
    /// Exports of the real libraries that stubs stand in for, by soname.
    pub stubbed: BTreeMap<String, Vec<Export>>,
}

/// Collects files; sonames in `stubs` are noted but neither taken nor followed.
#[derive(Debug)]
pub struct Walk<'a> {
    index: &'a Index,
    stubs: BTreeSet<&'a str>,
    closure: Closure,
    queue: Vec<String>,
}

impl<'a> Walk<'a> {
    /// Start with nothing.
    pub fn new(index: &'a Index, stubs: impl IntoIterator<Item = &'a str>) -> Self {
        Self { index, stubs: stubs.into_iter().collect(), closure: Closure::default(), queue: Vec::new() }
    }

    /// Take a program of `/usr/bin` or `/usr/sbin`.
    pub fn program(&mut self, package: &str, program: &str) -> Result<(), ClosureError> {
        let found = PROGRAM_FOLDERS.iter().any(|folder| self.take(&format!("{folder}/{program}")));
        let error = || ClosureError::NoProgram { program: program.to_owned(), package: package.to_owned() };
        found.then_some(()).ok_or_else(error)
    }

    /// Take the file at a canonical path; false if no package has it.
    pub fn file(&mut self, path: &str) -> bool {
        self.take(path)
    }

    /// Take what a program built on this host needs to start; the program itself is the caller's to add.
    pub fn needs_of_own(&mut self, program: &Path) -> Result<(), ClosureError> {
        let name = program.display().to_string();
        let failed = |source| ClosureError::Own { program: name.clone(), source };
        let Some(elf) = elf::read(program).map_err(failed)? else { return Ok(()) };
        self.follow(&name, &elf)?;
        for (version, library) in elf.imports.iter().filter_map(|import| import.version.as_ref()) {
            let has = LIBRARY_FOLDERS
                .iter()
                .find_map(|folder| self.index.resolve(&format!("{folder}/{library}")))
                .and_then(|resolved| self.index.get(&resolved.file))
                .map(|found| elf::defined_versions(&found.source).map_err(failed))
                .transpose()?;
            if !has.is_some_and(|has| has.contains(version)) {
                let (version, library) = (version.clone(), library.clone());
                return Err(ClosureError::TooNew { program: name, version, library });
            }
        }
        Ok(())
    }

    /// Follow everything taken so far to its end.
    pub fn finish(mut self) -> Result<Closure, ClosureError> {
        while let Some(path) = self.queue.pop() {
            if self.closure.elf_files.contains_key(&path) {
                continue;
            }
            let Some(elf) = self.read(&path)? else { continue };
            self.follow(&path, &elf)?;
            self.closure.elf_files.insert(path, elf);
        }
        Ok(self.closure)
    }

    /// Take the interpreter and the libraries of one file.
    fn follow(&mut self, user: &str, elf: &ElfFile) -> Result<(), ClosureError> {
        let missing =
            |library: &str| ClosureError::NoLibrary { library: library.to_owned(), user: user.to_owned() };
        if let Some(interpreter) = &elf.interpreter {
            let found = canonical(interpreter).is_some_and(|interpreter| self.take(&interpreter));
            found.then_some(()).ok_or_else(|| missing(interpreter))?;
        }
        for library in &elf.needed {
            if self.stubs.contains(library.as_str()) {
                self.note_stubbed(library).ok_or_else(|| missing(library))??;
            } else {
                let found = LIBRARY_FOLDERS.iter().any(|folder| self.take(&format!("{folder}/{library}")));
                found.then_some(()).ok_or_else(|| missing(library))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, path: &str) -> bool {
        let Some(resolved) = self.index.resolve(path) else { return false };
        self.closure.paths.extend(resolved.links);
        if self.closure.paths.insert(resolved.file.clone()) {
            self.queue.push(resolved.file);
        }
        true
    }

    fn note_stubbed(&mut self, library: &str) -> Option<Result<(), ClosureError>> {
        if self.closure.stubbed.contains_key(library) {
            return Some(Ok(()));
        }
        let resolved =
            LIBRARY_FOLDERS.iter().find_map(|folder| self.index.resolve(&format!("{folder}/{library}")))?;
        Some(self.read(&resolved.file).map(|elf| {
            let exports = elf.map(|elf| elf.exports).unwrap_or_default();
            self.closure.stubbed.insert(library.to_owned(), exports);
        }))
    }

    fn read(&self, path: &str) -> Result<Option<ElfFile>, ClosureError> {
        let Some(found) = self.index.get(path) else { return Ok(None) };
        elf::read(&found.source).map_err(|source| ClosureError::Elf { path: path.to_owned(), source })
    }
}
