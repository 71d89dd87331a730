//! A running process group: its pipes, its end, and who reaps it.

#![expect(clippy::disallowed_methods, reason = "the door through which processes start")]

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::kept::Kept;
use super::lines::LineCutter;
use super::{Exit, Stream, ToolError};

/// Searched after PATH: an ordinary user's PATH lacks the sbin folders, and PID 1 may have none at all.
const FALLBACK_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Lines waiting to be read; then the tool has to wait.
const LINES_WAITING: usize = 1024;
/// How long output is read on after the group is gone: a process that left the group may hold the pipe open.
const DRAIN: Duration = Duration::from_secs(2);

/// Pids started here whose threads have not reaped them yet. One for the process, as pids are.
static CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // what is kept under these locks is whole at every moment, also when a thread panicked
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program to start, for as long as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// A name to find in PATH, or a path with a slash.
    pub program: OsString,
    /// Its arguments, one each.
    pub args: Vec<OsString>,
    /// Environment variables beyond the inherited ones; `LC_ALL=C` is always set.
    pub env: Vec<(OsString, OsString)>,
    /// What it is the leader of.
    pub leads: Leads,
}

/// What a program that is started becomes the leader of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// A new process group.
    Group,
    /// A new session, and with it a new process group: it may take a terminal for its own (`getty`).
    Session,
}

/// What a running tool does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// It wrote a line.
    Line(Stream, String),
    /// It ended, its group is gone, and its output is read: nothing comes after this.
    Exited(Exit),
}

/// The streams while they are read.
#[derive(Debug, Default)]
struct Streams {
    stdout: Kept,
    stderr: Kept,
}

/// What was kept of the output.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) truncated: bool,
}

/// A process group at work. Dropping it kills the group.
#[derive(Debug)]
pub struct RunningTool {
    leader: Pid,
    happenings: Receiver<Happening>,
    output: Arc<Mutex<Streams>>,
    /// Set, under its lock, when the leader is reaped and its number may belong to someone else.
    reaped: Arc<Mutex<bool>>,
}

impl RunningTool {
    /// Process id of the leader, which is the id of the group as well.
    pub fn pid(&self) -> i32 {
        self.leader.as_raw()
    }

    /// What happens next; `None` if nothing did within `patience`, or when the end was told already.
    pub fn next(&self, patience: Duration) -> Option<Happening> {
        self.happenings.recv_timeout(patience).ok()
    }

    /// Waits for the end, giving each line to `on_line`. `None` if the end was told already.
    pub fn wait(&self, mut on_line: impl FnMut(Stream, &str)) -> Option<Exit> {
        loop {
            match self.happenings.recv().ok()? {
                Happening::Line(stream, line) => on_line(stream, &line),
                Happening::Exited(exit) => return Some(exit),
            }
        }
    }

    /// Asks the group to end (`SIGTERM`).
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends the group (`SIGKILL`).
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    pub(super) fn take_output(&self) -> Output {
        let streams = std::mem::take(&mut *locked(&self.output));
        let (stdout, stdout_left_out) = streams.stdout.into_bytes();
        let (stderr, stderr_left_out) = streams.stderr.into_bytes();
        Output { stdout, stderr, truncated: stdout_left_out || stderr_left_out }
    }

    fn signal(&self, signal: Signal) {
        let reaped = locked(&self.reaped);
        if !*reaped {
            // the leader is running or a zombie, so the group's id is still its own; there is nothing to do if it
            // is gone anyway
            let _ = killpg(self.leader, signal);
        }
    }
}

impl Drop for RunningTool {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a program as the leader of a new process group and keeps at most `keep_bytes` of each output stream, of its
/// beginning and its end.
pub(super) fn start(service: &Service, keep_bytes: usize) -> Result<RunningTool, ToolError> {
    let name = service.program.to_string_lossy().into_owned();
    let program = find(&service.program).ok_or_else(|| ToolError::Missing { tool: name.clone() })?;
    let mut command = Command::new(program);
    command
        .args(&service.args)
        .env("LC_ALL", "C")
        .envs(service.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match service.leads {
        Leads::Group => {
            command.process_group(0);
        }
        // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe and allocates nothing
        Leads::Session => unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
        },
    }
    let mut child = {
        // under the lock, so that the reaper cannot see the child before it is known
        let mut children = locked(&CHILDREN);
        let child = command.spawn().map_err(|source| ToolError::Start { tool: name.clone(), source })?;
        children.insert(pid_of(&child).as_raw());
        child
    };
    let leader = pid_of(&child);
    let (sender, happenings) = bounded(LINES_WAITING);
    let output =
        Arc::new(Mutex::new(Streams { stdout: Kept::new(keep_bytes), stderr: Kept::new(keep_bytes) }));
    let reaped = Arc::new(Mutex::new(false));
    let (read_sender, read) = bounded(2);
    let streams = [
        (Stream::Stdout, child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
        (Stream::Stderr, child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
    ];
    let tool = RunningTool { leader, happenings, output: Arc::clone(&output), reaped: Arc::clone(&reaped) };
    let threads = || -> std::io::Result<()> {
        for (stream, pipe) in streams {
            let Some(pipe) = pipe else { continue };
            let reader = Reader { stream, keep_bytes, output: Arc::clone(&output), sender: sender.clone() };
            let done = read_sender.clone();
            std::thread::Builder::new().name(format!("{name} {stream:?}")).spawn(move || {
                reader.read_all(pipe);
                let _ = done.send(());
            })?;
        }
        drop(read_sender);
        std::thread::Builder::new()
            .name(format!("{name} wait"))
            .spawn(move || wait_and_tell(child, &reaped, &read, &sender))?;
        Ok(())
    };
    threads().map_err(|source| {
        // nobody is left to reap it as ours: it becomes the reaper's
        locked(&CHILDREN).remove(&leader.as_raw());
        ToolError::Start { tool: service.program.to_string_lossy().into_owned(), source }
    })?;
    Ok(tool)
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

fn wait_and_tell(mut child: Child, reaped: &Mutex<bool>, read: &Receiver<()>, sender: &Sender<Happening>) {
    let leader = pid_of(&child);
    // look without reaping: while the zombie stands, no other process can get the group's id
    while matches!(
        waitid(Id::Pid(leader), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT),
        Err(nix::errno::Errno::EINTR)
    ) {}
    let status = {
        let mut reaped = locked(reaped);
        let _ = killpg(leader, Signal::SIGKILL);
        let mut children = locked(&CHILDREN);
        let status = child.wait();
        children.remove(&leader.as_raw());
        *reaped = true;
        status
    };
    // both readers, or until the time is over; a reader that is gone has nothing more to give
    let _ = read.recv_timeout(DRAIN).and_then(|()| read.recv_timeout(DRAIN));
    // a status that cannot be had is no success: PID 1's kernel always gives it, so this does not happen
    let exit = status.map_or(Exit::Signal(Signal::SIGKILL as i32), exit_of);
    let _ = sender.send(Happening::Exited(exit));
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        // neither: it was stopped, which wait() does not report
        (None, None) => Exit::Signal(Signal::SIGKILL as i32),
    }
}

struct Reader {
    stream: Stream,
    keep_bytes: usize,
    output: Arc<Mutex<Streams>>,
    sender: Sender<Happening>,
}

impl Reader {
    fn read_all(&self, mut pipe: Box<dyn Read + Send>) {
        let mut cutter = LineCutter::default();
        let mut chunk = [0_u8; 16 * 1024];
        let emit = |line| {
            // the receiver is gone when nobody wants the lines any more
            let _ = self.sender.send(Happening::Line(self.stream, line));
        };
        loop {
            match pipe.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    let bytes = chunk.get(..count).unwrap_or_default();
                    self.keep(bytes);
                    cutter.push(bytes, emit);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        cutter.flush(emit);
    }

    fn keep(&self, bytes: &[u8]) {
        if self.keep_bytes == 0 {
            return;
        }
        let mut streams = locked(&self.output);
        match self.stream {
            Stream::Stdout => streams.stdout.push(bytes),
            Stream::Stderr => streams.stderr.push(bytes),
        }
    }
}

/// Where a program lies: a path with a slash as it is, a bare name in PATH and then in the usual folders.
fn find(program: &OsStr) -> Option<PathBuf> {
    let is_executable = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.as_encoded_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return is_executable(&path).then_some(path);
    }
    let path_variable = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path_variable)
        .chain(FALLBACK_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

/// Reaps every orphan that has ended, for PID 1, and says how many there were. Children started by this module are
/// left to their own threads. Call it on `SIGCHLD` and every second or so.
pub fn reap_orphans() -> usize {
    let mut count = 0;
    loop {
        // under the lock, so that no child can be started or reaped between the look and the deed
        let children = locked(&CHILDREN);
        let look = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG);
        let Ok(WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, _, _)) = look else {
            return count;
        };
        if children.contains(&ended.as_raw()) {
            // its own thread is about to reap it; who ended after it is seen at the next call
            return count;
        }
        if waitpid(ended, Some(WaitPidFlag::WNOHANG)).is_err() {
            return count;
        }
        count += 1;
    }
}
