//! Stores the results of a run without a coordinator: at once in memory, and on the shelf a few seconds later.
//!
//! In memory (`/run/vetting/results` of the live image) everything is there at once, for SSH, for the console, and for
//! a stick that comes back. On the shelf the record stream is appended every few seconds and made durable (`fsync`), so
//! a power cut costs at most what came since. Every other file is written whole under another name, made durable, and
//! renamed. FAT has no journal: a power cut in the middle of a rename can leave the temporary name beside the old one,
//! never half a file under the real name. The manifest is written last: a folder without it is not complete.

#![expect(clippy::disallowed_methods, reason = "the door through which results are written")]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::results::{MANIFEST_FILE, ManifestLine, RESULTS_FOLDER, STREAM_FILE, manifest_text};

use super::shelf::Shelf;
use crate::console::Console;

/// A power cut costs at most the records of this long.
pub const STORE_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes that are copied at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Results that could not even be kept in memory.
#[derive(Debug, thiserror::Error)]
#[error("{path}: the results cannot be kept in memory")]
pub struct MemoryError {
    path: PathBuf,
    source: std::io::Error,
}

/// The results of one run.
pub struct Results {
    memory: PathBuf,
    name: String,
    shelf: Arc<dyn Shelf>,
    console: Arc<dyn Console>,
    state: Mutex<State>,
    changed: Condvar,
    /// One copy to the shelf at a time.
    copying: Mutex<Copied>,
}

struct State {
    stream: File,
    files: Vec<String>,
    failure: Option<String>,
    closed: bool,
}

/// What is on the shelf.
#[derive(Default)]
struct Copied {
    stream_bytes: u64,
    files: Vec<String>,
    /// The last copy failed: what is there now is not known.
    doubtful: bool,
}

impl Results {
    /// Makes the folder `name` in memory, with the given files. Nothing is on the shelf yet.
    ///
    /// # Errors
    /// The memory is full.
    pub fn begin(
        memory: &Path,
        name: &str,
        files: &[(&str, &[u8])],
        shelf: Arc<dyn Shelf>,
        console: Arc<dyn Console>,
    ) -> Result<Self, MemoryError> {
        let memory = memory.join(name);
        let failed = |source| MemoryError { path: memory.clone(), source };
        std::fs::create_dir_all(&memory).map_err(failed)?;
        let stream = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(memory.join(STREAM_FILE))
            .map_err(failed)?;
        let results = Self {
            memory,
            name: name.to_owned(),
            shelf,
            console,
            state: Mutex::new(State { stream, files: Vec::new(), failure: None, closed: false }),
            changed: Condvar::new(),
            copying: Mutex::new(Copied::default()),
        };
        for (name, bytes) in files {
            results.keep(name, bytes)?;
        }
        Ok(results)
    }

    /// Appends a record to the stream.
    ///
    /// # Errors
    /// The memory is full.
    pub fn append(&self, record: &Record) -> Result<(), MemoryError> {
        let failed = |source| MemoryError { path: self.memory.join(STREAM_FILE), source };
        let mut line = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.lock().stream.write_all(&line).map_err(failed)
    }

    /// Keeps a file beside the stream; it goes to the shelf with the next copy.
    ///
    /// # Errors
    /// The memory is full.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), MemoryError> {
        let path = self.memory.join(name);
        std::fs::write(&path, bytes).map_err(|source| MemoryError { path, source })?;
        let files = &mut self.lock().files;
        if !files.iter().any(|there| there == name) {
            files.push(name.to_owned());
        }
        Ok(())
    }

    /// Writes the manifest of all that was kept: the last file.
    ///
    /// # Errors
    /// The memory is full, or a file in it is gone.
    pub fn seal(&self) -> Result<(), MemoryError> {
        let mut names = self.lock().files.clone();
        names.push(STREAM_FILE.to_owned());
        let mut lines = Vec::new();
        for name in names {
            let path = self.memory.join(&name);
            let bytes = std::fs::read(&path).map_err(|source| MemoryError { path, source })?;
            lines.push(ManifestLine { name, sha256: Sha256Hex::of(&bytes) });
        }
        self.keep(MANIFEST_FILE, manifest_text(&lines).as_bytes())
    }

    /// Where everything is in memory.
    pub fn memory(&self) -> &Path {
        &self.memory
    }

    /// Where it is on the shelf.
    pub fn place(&self) -> String {
        format!("{RESULTS_FOLDER}/{} on {}", self.name, self.shelf.name())
    }

    /// Copies to the shelf what is not there yet; durable when this succeeds. The console is told when that begins to
    /// fail and when it works again.
    ///
    /// # Errors
    /// Why not, in words. What could not be copied is copied by a later call.
    pub fn store(&self) -> Result<(), String> {
        let mut copied = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.copy(&mut copied);
        copied.doubtful = outcome.is_err();
        let failure = outcome.as_ref().err().cloned();
        let before = std::mem::replace(&mut self.lock().failure, failure);
        match (&before, &outcome) {
            (None, Err(why)) => self.console.line(&format!(
                "THE RESULTS CANNOT BE STORED on {}: {why}. They are kept in memory ({}) and tried again",
                self.shelf.name(),
                self.memory.display()
            )),
            (Some(_), Ok(())) => {
                self.console.line(&format!("the results are stored again: {}", self.place()));
            }
            (None, Ok(())) | (Some(_), Err(_)) => {}
        }
        outcome
    }

    /// Stores now and then until [`Results::close`].
    pub fn store_regularly(&self) {
        loop {
            let state = self.lock();
            let waited = self.changed.wait_timeout_while(state, STORE_INTERVAL, |state| !state.closed);
            let closed = waited.map_or_else(|error| error.into_inner().0.closed, |(state, _)| state.closed);
            if closed {
                return;
            }
            // told on the console
            let _ = self.store();
        }
    }

    /// Ends [`Results::store_regularly`], and lets the shelf go.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        self.shelf.close();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(&self, copied: &mut Copied) -> Result<(), String> {
        let top = self.shelf.open(copied.doubtful)?;
        let parent = top.join(RESULTS_FOLDER);
        let folder = parent.join(&self.name);
        let said = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        if copied.doubtful {
            *copied = Copied::default();
        }
        std::fs::create_dir_all(&folder).map_err(|error| said(&folder, error))?;
        let files = self.lock().files.clone();
        let (manifest, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| name == MANIFEST_FILE);
        for name in files {
            self.copy_file(copied, &folder, &name).map_err(|error| said(&folder.join(&name), error))?;
        }
        let stream = folder.join(STREAM_FILE);
        self.copy_stream(copied, &stream).map_err(|error| said(&stream, error))?;
        for name in manifest {
            self.copy_file(copied, &folder, &name).map_err(|error| said(&folder.join(&name), error))?;
        }
        // the folders' own entries
        for path in [&folder, &parent, &top] {
            File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| said(path, error))?;
        }
        Ok(())
    }

    fn copy_file(&self, copied: &mut Copied, folder: &Path, name: &str) -> std::io::Result<()> {
        if copied.files.iter().any(|there| there == name) {
            return Ok(());
        }
        let bytes = std::fs::read(self.memory.join(name))?;
        let temporary = folder.join(format!("{name}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, folder.join(name))?;
        copied.files.push(name.to_owned());
        Ok(())
    }

    /// Appends what is new. After a failure the whole stream is written anew, beside what may be half of it.
    fn copy_stream(&self, copied: &mut Copied, path: &Path) -> std::io::Result<()> {
        let mut source = File::open(self.memory.join(STREAM_FILE))?;
        // records are appended whole, so the length is that of whole lines
        let length = self.lock().stream.metadata()?.len();
        if length == copied.stream_bytes {
            return Ok(());
        }
        let anew = copied.stream_bytes == 0;
        let temporary = path.with_extension("new");
        let mut target =
            if anew { File::create(&temporary)? } else { OpenOptions::new().append(true).open(path)? };
        source.seek(SeekFrom::Start(copied.stream_bytes))?;
        let mut left = source.take(length - copied.stream_bytes);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = left.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            target.write_all(chunk.get(..count).unwrap_or_default())?;
        }
        target.sync_all()?;
        if anew {
            std::fs::rename(&temporary, path)?;
        }
        copied.stream_bytes = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use vetting_protocol::results::{HEADER_FILE, parse_manifest};

    use super::*;

    struct Quiet;

    impl Console for Quiet {
        fn line(&self, _: &str) {}
    }

    /// A stick that can be pulled out.
    struct Pulled {
        folder: Mutex<Option<PathBuf>>,
    }

    impl Shelf for Pulled {
        fn open(&self, _: bool) -> Result<PathBuf, String> {
            self.folder.lock().unwrap().clone().ok_or_else(|| "it is gone".to_owned())
        }

        fn close(&self) {}

        fn name(&self) -> String {
            "the stick".to_owned()
        }
    }

    fn end(ts_ms: i64) -> Record {
        Record::PipelineFinished { ts_ms }
    }

    fn lines(folder: &Path) -> usize {
        std::fs::read_to_string(folder.join(STREAM_FILE)).unwrap().lines().count()
    }

    #[test]
    fn what_was_stored_is_whole_and_what_came_since_is_added() {
        let (memory, stick) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let shelf = Arc::new(super::super::shelf::Folder(stick.path().to_owned()));
        let files: [(&str, &[u8]); 1] = [(HEADER_FILE, b"{}")];
        let results = Results::begin(memory.path(), "run", &files, shelf, Arc::new(Quiet)).unwrap();
        let folder = stick.path().join("results/run");
        results.append(&end(1)).unwrap();
        results.store().unwrap();
        assert_eq!(lines(&folder), 1);
        results.append(&end(2)).unwrap();
        results.append(&end(3)).unwrap();
        assert_eq!(lines(&folder), 1);
        results.store().unwrap();
        assert_eq!(lines(&folder), 3);
        assert!(!folder.join(MANIFEST_FILE).exists());
        results.seal().unwrap();
        results.store().unwrap();
        let manifest = std::fs::read_to_string(folder.join(MANIFEST_FILE)).unwrap();
        for line in parse_manifest(&manifest).unwrap() {
            assert_eq!(Sha256Hex::of(&std::fs::read(folder.join(&line.name)).unwrap()), line.sha256);
        }
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [MANIFEST_FILE, HEADER_FILE, STREAM_FILE]);
    }

    #[test]
    fn a_stick_that_was_pulled_out_gets_everything_when_it_is_back() {
        let (memory, first, second) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let shelf = Arc::new(Pulled { folder: Mutex::new(Some(first.path().to_owned())) });
        let files: [(&str, &[u8]); 1] = [(HEADER_FILE, b"{}")];
        let results = Results::begin(
            memory.path(),
            "run",
            &files,
            Arc::clone(&shelf) as Arc<dyn Shelf>,
            Arc::new(Quiet),
        )
        .unwrap();
        results.append(&end(1)).unwrap();
        results.store().unwrap();
        *shelf.folder.lock().unwrap() = None;
        results.append(&end(2)).unwrap();
        assert_eq!(results.store().unwrap_err(), "it is gone");
        assert_eq!(lines(results.memory()), 2, "in memory nothing is lost");
        *shelf.folder.lock().unwrap() = Some(second.path().to_owned());
        results.append(&end(3)).unwrap();
        results.store().unwrap();
        let folder = second.path().join("results/run");
        assert_eq!(lines(&folder), 3);
        assert!(folder.join(HEADER_FILE).exists());
    }

    /// What the console shows.
    #[derive(Default)]
    struct Shown(Mutex<Vec<String>>);

    impl Console for Shown {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    impl Shown {
        /// The lines since the last call.
        fn take(&self) -> String {
            self.0.lock().unwrap().split_off(0).join("\n")
        }
    }

    /// Mounts a file system of 64 KiB, or changes it; only this thread sees it. Takes root.
    fn mount_small(place: &Path, flags: MsFlags) {
        mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some("size=64k")).unwrap();
    }

    fn full_or_read_only() {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let (memory, stick) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        mount_small(stick.path(), MsFlags::empty());
        let filler = stick.path().join("somebody else's");
        std::fs::write(&filler, vec![7; 48 << 10]).unwrap();
        let report = vec![b'r'; 24 << 10];
        let (shelf, shown) =
            (super::super::shelf::Folder(stick.path().to_owned()), Arc::new(Shown::default()));
        let console = Arc::clone(&shown) as Arc<dyn Console>;
        let files: [(&str, &[u8]); 1] = [(HEADER_FILE, b"{}")];
        let results = Results::begin(memory.path(), "run", &files, Arc::new(shelf), console).unwrap();
        let folder = stick.path().join("results/run");
        results.append(&end(1)).unwrap();
        results.store().unwrap();

        results.keep("report.json", &report).unwrap();
        results.append(&end(2)).unwrap();
        for _ in 0..2 {
            assert!(results.store().unwrap_err().contains("No space left"));
        }
        let told = shown.take();
        assert!(told.contains("CANNOT BE STORED") && told.contains("report.json"), "{told}");
        assert_eq!(told.lines().count(), 1, "once, not at each try: {told}");
        assert!(!folder.join("report.json").exists(), "half a file has another name");
        std::fs::remove_file(&filler).unwrap();
        results.store().unwrap();
        assert!(shown.take().contains("stored again"));
        assert_eq!((std::fs::read(folder.join("report.json")).unwrap(), lines(&folder)), (report, 2));

        mount_small(stick.path(), MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        results.append(&end(3)).unwrap();
        assert!(results.store().unwrap_err().contains("Read-only"));
        assert_eq!((lines(&folder), lines(results.memory())), (2, 3), "in memory nothing is lost");
        mount_small(stick.path(), MsFlags::MS_REMOUNT);
        results.store().unwrap();
        assert_eq!(lines(&folder), 3);
    }

    #[test]
    fn a_stick_that_is_full_or_read_only_is_told_and_gets_everything_when_it_can() {
        // what is mounted goes with the thread
        std::thread::spawn(full_or_read_only).join().unwrap();
    }
}
