//! The built image `vetting-usb.img` in memory: checked by its manifest, its `vetting.yaml` replaced.
//!
//! Refuses: an image that is not as it was built, and one whose partition is not the FAT file system `VETTING` that the
//! image builder makes. Changes one file of that file system and nothing else.

use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fatfs::{FileSystem, FsOptions};
use serde::Deserialize;
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::stick::FILE_NAME;

/// Name of the image in the folder that `make image` leaves.
pub const FILE: &str = "vetting-usb.img";
/// Label of its file system, by which machines find it again.
const LABEL: &str = "VETTING";

const SECTOR_BYTES: usize = 512;
/// Where the table of a master boot record begins, and where its first entry says type, first sector and length.
const FIRST_ENTRY: usize = 446;
/// Type of a FAT32 partition that is addressed by sector numbers.
const FAT32_LBA: u8 = 0x0c;

/// An image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot read {}; `make image` makes it, --image names another place", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest beside it is no manifest.
    #[error("{} is damaged; `make image` makes it anew", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It is not what was built.
    #[error("{} is not as it was built (SHA-256 {found}, its manifest.json says {expected}); `make image` makes it anew", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its hash.
        found: Sha256Hex,
        /// The hash of what was built.
        expected: Sha256Hex,
    },
    /// Some other image.
    #[error("this is no image of a vetting stick: {what}; use the vetting-usb.img that `make image` makes")]
    Foreign {
        /// What is not as expected.
        what: &'static str,
    },
    /// The file system does not take the settings.
    #[error("the settings cannot be put into the image's file system")]
    FileSystem(#[source] std::io::Error),
    /// The file system holds something else than was put into it.
    #[error("the image's file system gives back other settings than were put into it")]
    ReadBack,
}

/// `manifest.json`, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Manifest {
    files: Vec<BuiltFile>,
}

#[derive(Debug, Deserialize)]
struct BuiltFile {
    name: String,
    sha256: Sha256Hex,
}

/// The image, held against `manifest.json` beside it; without one it is taken as it is, with a warning in the log.
///
/// # Errors
/// It cannot be read, or it is not what was built.
pub fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    let bytes = std::fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
    let manifest = path.with_file_name("manifest.json");
    let text = match std::fs::read(&manifest) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(image = %path.display(), "no manifest.json beside the image: not checked whether it is whole");
            return Ok(bytes);
        }
        Err(source) => return Err(ImageError::Read { path: manifest, source }),
    };
    let Manifest { files } =
        serde_json::from_slice(&text).map_err(|source| ImageError::Manifest { path: manifest, source })?;
    let built =
        files.into_iter().find(|file| path.file_name().is_some_and(|name| name == file.name.as_str()));
    match (built, Sha256Hex::of(&bytes)) {
        (Some(BuiltFile { sha256: expected, .. }), found) if expected != found => {
            Err(ImageError::Changed { path: path.to_owned(), found, expected })
        }
        (Some(_), _) => Ok(bytes),
        (None, _) => {
            tracing::warn!(image = %path.display(), "manifest.json does not name the image: not checked whether it is whole");
            Ok(bytes)
        }
    }
}

/// Replaces `vetting.yaml` in the image and reads it back.
///
/// # Errors
/// The image is not one of ours, or its file system is full.
pub fn put_settings(image: &mut [u8], text: &str) -> Result<(), ImageError> {
    let partition = partition(image)?;
    {
        let files = open(&mut *partition)?;
        let mut file = files.root_dir().create_file(FILE_NAME).map_err(ImageError::FileSystem)?;
        file.truncate().map_err(ImageError::FileSystem)?;
        file.write_all(text.as_bytes()).map_err(ImageError::FileSystem)?;
        file.flush().map_err(ImageError::FileSystem)?;
        drop(file);
        files.unmount().map_err(ImageError::FileSystem)?;
    }
    if settings(partition)? == text { Ok(()) } else { Err(ImageError::ReadBack) }
}

/// The one partition.
fn partition(image: &mut [u8]) -> Result<&mut [u8], ImageError> {
    let foreign = |what| ImageError::Foreign { what };
    let number = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()?.checked_mul(SECTOR_BYTES)
    };
    if image.get(510..SECTOR_BYTES) != Some(&[0x55, 0xaa]) || image[FIRST_ENTRY + 4] != FAT32_LBA {
        return Err(foreign("its first partition is not FAT32"));
    }
    let (start, length) = (number(FIRST_ENTRY + 8), number(FIRST_ENTRY + 12));
    let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
    let range = start.zip(end).map(|(start, end)| start..end).filter(|range| !range.is_empty());
    range.and_then(|range| image.get_mut(range)).ok_or_else(|| foreign("it is cut short"))
}

fn open(partition: &mut [u8]) -> Result<FileSystem<Cursor<&mut [u8]>>, ImageError> {
    let files = FileSystem::new(Cursor::new(partition), FsOptions::new())
        .map_err(|_| ImageError::Foreign { what: "its partition holds no FAT file system" })?;
    if files.volume_label() != LABEL {
        return Err(ImageError::Foreign { what: "its file system is not called VETTING" });
    }
    Ok(files)
}

fn settings(partition: &mut [u8]) -> Result<String, ImageError> {
    let files = open(partition)?;
    let mut text = String::new();
    let mut file = files.root_dir().open_file(FILE_NAME).map_err(ImageError::FileSystem)?;
    file.read_to_string(&mut text).map_err(ImageError::FileSystem)?;
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use fatfs::{FatType, FormatVolumeOptions};

    use super::*;

    /// An image as the builder makes it, but small.
    pub(crate) fn image(label: &[u8; 11]) -> Vec<u8> {
        const START: usize = 2048 * SECTOR_BYTES;
        let mut image = vec![0; START + (40 << 20)];
        image[FIRST_ENTRY + 4] = FAT32_LBA;
        image[FIRST_ENTRY + 8..FIRST_ENTRY + 12].copy_from_slice(&2048_u32.to_le_bytes());
        image[FIRST_ENTRY + 12..FIRST_ENTRY + 16].copy_from_slice(&(40_u32 << 11).to_le_bytes());
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        let options =
            FormatVolumeOptions::new().volume_label(*label).fat_type(FatType::Fat32).bytes_per_cluster(512);
        fatfs::format_volume(Cursor::new(&mut image[START..]), options).unwrap();
        let files = FileSystem::new(Cursor::new(&mut image[START..]), FsOptions::new()).unwrap();
        for (name, text) in [(FILE_NAME, "mode: auto\n"), ("kernel", "untouched")] {
            files.root_dir().create_file(name).unwrap().write_all(text.as_bytes()).unwrap();
        }
        files.unmount().unwrap();
        image
    }

    #[test]
    fn settings_shorter_and_longer_than_before_replace_them_and_nothing_else_changes() {
        let mut image = image(b"VETTING    ");
        for text in
            ["mode: offline\n".to_owned(), format!("# {}\nmode: auto\n", "x".repeat(9000)), String::new()]
        {
            put_settings(&mut image, &text).unwrap();
            let files = open(partition(&mut image).unwrap()).unwrap();
            let mut kept = String::new();
            files.root_dir().open_file("kernel").unwrap().read_to_string(&mut kept).unwrap();
            assert_eq!(kept, "untouched");
            assert_eq!(files.root_dir().iter().filter(|entry| entry.as_ref().unwrap().is_file()).count(), 2);
        }
    }

    #[test]
    fn the_same_settings_give_the_same_image() {
        let (mut one, mut other) = (image(b"VETTING    "), image(b"VETTING    "));
        // formatting writes the same too, so only the settings could differ
        put_settings(&mut one, "mode: offline\n").unwrap();
        put_settings(&mut other, "mode: offline\n").unwrap();
        assert!(one == other);
    }

    #[test]
    fn other_images_are_refused() {
        let text = "mode: offline\n";
        for (mut other, what) in [
            (Vec::new(), "FAT32"),
            (vec![0; 4096], "FAT32"),
            (image(b"BACKUP     "), "not called VETTING"),
            (image(b"VETTING    ")[..5 << 20].to_vec(), "cut short"),
        ] {
            let error = put_settings(&mut other, text).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
        let mut blank = image(b"VETTING    ");
        blank[2048 * SECTOR_BYTES..][..SECTOR_BYTES].fill(0);
        assert!(put_settings(&mut blank, text).unwrap_err().to_string().contains("no FAT file system"));
    }

    #[test]
    fn an_image_that_is_not_as_built_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, "image").unwrap();
        assert_eq!(read(&path).unwrap(), b"image");
        let manifest = |hash: Sha256Hex| {
            serde_json::json!({"files": [{"name": FILE, "sha256": hash, "size_bytes": 5}]}).to_string()
        };
        std::fs::write(folder.path().join("manifest.json"), manifest(Sha256Hex::of(b"image"))).unwrap();
        assert_eq!(read(&path).unwrap(), b"image");
        std::fs::write(&path, "imagE").unwrap();
        assert!(matches!(read(&path), Err(ImageError::Changed { .. })));
        std::fs::write(folder.path().join("manifest.json"), "{").unwrap();
        assert!(matches!(read(&path), Err(ImageError::Manifest { .. })));
    }
}
