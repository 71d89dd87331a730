//! What the image build reads of ELF files: interpreter, needed libraries, dynamic symbols, and the firmware names in
//! kernel modules.
//!
//! Owns: reading. Refuses: anything but 64-bit x86.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use goblin::elf::section_header::SHN_UNDEF;
use goblin::elf::sym::STT_OBJECT;
use goblin::elf::{Elf, header};

/// Why an ELF file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It could not be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// It is damaged.
    #[error("{} is not a sound ELF file", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's answer.
        source: goblin::error::Error,
    },
    /// It is for another machine.
    #[error("{} is not for x86-64", path.display())]
    Machine {
        /// The file.
        path: PathBuf,
    },
}

/// A dynamic symbol a file imports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// Symbol name.
    pub name: String,
    /// Version, and the soname of the library it must come from, where the file says so.
    pub version: Option<(String, String)>,
}

/// A dynamic symbol a library exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Symbol name.
    pub name: String,
    /// Size in bytes if it is data, none if it is code.
    pub data_bytes: Option<u64>,
}

/// What matters of an executable or library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfFile {
    /// Path of the program interpreter.
    pub interpreter: Option<String>,
    /// Sonames of needed libraries.
    pub needed: Vec<String>,
    /// Imported symbols.
    pub imports: Vec<Import>,
    /// Exported symbols.
    pub exports: Vec<Export>,
}

/// Read an ELF file; none if the file is something else (a script, data).
pub fn read(path: &Path) -> Result<Option<ElfFile>, ElfError> {
    let bytes = std::fs::read(path).map_err(|source| ElfError::Read { path: path.to_owned(), source })?;
    if !bytes.starts_with(header::ELFMAG) {
        return Ok(None);
    }
    let elf = Elf::parse(&bytes).map_err(|source| ElfError::Parse { path: path.to_owned(), source })?;
    if elf.header.e_machine != header::EM_X86_64 || !elf.is_64 {
        return Err(ElfError::Machine { path: path.to_owned() });
    }
    let mut file = ElfFile {
        interpreter: elf.interpreter.map(str::to_owned),
        needed: elf.libraries.iter().map(|name| (*name).to_owned()).collect(),
        imports: Vec::new(),
        exports: Vec::new(),
    };
    for (index, symbol) in elf.dynsyms.iter().enumerate() {
        let Some(name) = elf.dynstrtab.get_at(symbol.st_name).filter(|name| !name.is_empty()) else {
            continue;
        };
        let name = name.to_owned();
        if symbol.st_shndx == SHN_UNDEF as usize {
            file.imports.push(Import { name, version: required_version(&elf, index) });
        } else {
            let data_bytes = (symbol.st_type() == STT_OBJECT).then_some(symbol.st_size);
            file.exports.push(Export { name, data_bytes });
        }
    }
    Ok(Some(file))
}

/// The version and library that symbol `index` is bound to (`.gnu.version`, `.gnu.version_r`).
fn required_version(elf: &Elf<'_>, index: usize) -> Option<(String, String)> {
    let version = elf.versym.as_ref()?.get_at(index)?.version();
    for need in elf.verneed.as_ref()? {
        for auxiliary in &need {
            if auxiliary.vna_other & 0x7fff == version {
                let version = elf.dynstrtab.get_at(auxiliary.vna_name)?;
                let library = elf.dynstrtab.get_at(need.vn_file)?;
                return Some((version.to_owned(), library.to_owned()));
            }
        }
    }
    None
}

/// The versions of its symbols that a library has (`.gnu.version_d`): `GLIBC_2.36`.
pub fn defined_versions(path: &Path) -> Result<BTreeSet<String>, ElfError> {
    let bytes = std::fs::read(path).map_err(|source| ElfError::Read { path: path.to_owned(), source })?;
    let elf = Elf::parse(&bytes).map_err(|source| ElfError::Parse { path: path.to_owned(), source })?;
    let names = elf.verdef.iter().flatten().filter_map(|version| {
        let name = version.into_iter().next()?.vda_name;
        elf.dynstrtab.get_at(name).map(str::to_owned)
    });
    Ok(names.collect())
}

/// What a kernel module says of itself under `key` in its `.modinfo`: `firmware` it may ask for, its `version`, modules
/// it `depends` on, the kernel it is for (`vermagic`). In order, as often as it is there.
pub fn module_info(path: &Path, key: &str) -> Result<Vec<String>, ElfError> {
    let bytes = std::fs::read(path).map_err(|source| ElfError::Read { path: path.to_owned(), source })?;
    let elf = Elf::parse(&bytes).map_err(|source| ElfError::Parse { path: path.to_owned(), source })?;
    let section = elf
        .section_headers
        .iter()
        .find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(".modinfo"))
        .and_then(|section| bytes.get(section.file_range()?));
    let entries = section.unwrap_or_default().split(|byte| *byte == 0);
    Ok(entries
        .filter_map(|entry| entry.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_program_is_read() {
        let file = read(&std::env::current_exe().unwrap()).unwrap().unwrap();
        assert!(file.interpreter.is_some_and(|path| path.contains("ld-linux")));
        assert!(file.needed.iter().any(|library| library == "libc.so.6"));
        let versioned = file.imports.iter().find_map(|import| import.version.clone()).unwrap();
        assert!(versioned.0.starts_with("GLIBC_") || versioned.0.starts_with("GCC_"), "{versioned:?}");
    }

    #[test]
    fn a_script_is_no_elf_file() {
        let script = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(script.path(), "#!/bin/sh\n").unwrap();
        assert_eq!(read(script.path()).unwrap(), None);
    }

    #[test]
    fn a_cut_off_elf_file_is_an_error() {
        let cut = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(cut.path(), b"\x7fELF\x02\x01").unwrap();
        assert!(matches!(read(cut.path()), Err(ElfError::Parse { .. })));
    }
}
