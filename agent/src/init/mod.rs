//! The agent as init of the live image: two processes, so that none of the work can take PID 1 down with it.
//!
//! PID 1 ([`pid_one`]) mounts, owns the consoles, reaps orphans, and restarts or switches off the machine; it does
//! nothing that waits for hardware. Its child ([`live`]) loads modules, brings up the network and looks after
//! `run`. If the child dies, PID 1 says so and restarts the machine; PID 1 itself never ends.

mod console;
mod fate;
mod haste;
mod interface;
mod lease;
mod live;
mod module_index;
mod module_loader;
mod modules;
mod mounts;
mod network;
mod power;
pub mod session;
mod shell;
mod usr;

use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::Exit;
use crate::clock;
use crate::console::{Console as _, chain};
use crate::tools::runner::{Exit as ToolExit, Happening, RunningTool, Service, SystemRunner, reap_orphans};
use console::{CONSOLES, TtyConsole};
use power::Power;

pub use live::live;

/// How often PID 1 looks at signals and orphans.
const LOOK: Duration = Duration::from_millis(100);
/// Time between something that should not happen and the restart, so that it can be read.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// Time that what runs gets to end before the machine goes down.
const ENDING: Duration = Duration::from_secs(3);
/// Environment of everything in the live image: the kernel gives none but HOME and TERM.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// This program is not the init of this machine.
#[derive(Debug, thiserror::Error)]
#[error("`init` is for PID 1 of the live image; on this machine use `vetting-agent run`")]
pub struct NotPidOne;

/// Is init: never returns on the live image.
///
/// # Errors
/// This process is not PID 1.
pub fn pid_one() -> Result<Exit, NotPidOne> {
    if std::process::id() != 1 {
        return Err(NotPidOne);
    }
    let init_ms = clock::uptime_ms();
    let signals = watched_signals();
    // threads inherit the mask: before the first one starts
    let blocked = signals.thread_block();
    let mount_failures = mounts::mount_all();
    haste::begin(Path::new(live::RUN_DIRECTORY));
    let console = Arc::new(TtyConsole::open(CONSOLES));
    console.line(&format!("vetting-agent {} is PID 1", env!("CARGO_PKG_VERSION")));
    for failure in mount_failures {
        console.line(&chain(&failure));
    }
    if let Err(error) = blocked {
        console.line(&format!("signals cannot be blocked: {error}"));
    }
    let hook_console = Arc::clone(&console);
    std::panic::set_hook(Box::new(move |panic| hook_console.line(&format!("PID 1: {panic}"))));

    if let Err(error) = usr::mount() {
        console.line(&format!("the tools of the live image are not there: {}", chain(&error)));
        power::go(restart_after_last_words(&console), &console)
    }
    let fate = catch_unwind(AssertUnwindSafe(|| look_after(&console, &signals, init_ms)));
    let power = fate.unwrap_or_else(|_| {
        console.line(&format!("PID 1 panicked; the machine restarts in {} s", LAST_WORDS.as_secs()));
        std::thread::sleep(LAST_WORDS);
        Power::Restart
    });
    power::go(power, &console)
}

fn watched_signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2] {
        signals.add(signal);
    }
    signals
}

/// Starts the live session and waits for its end or for a signal; says what becomes of the machine.
fn look_after(console: &TtyConsole, signals: &SigSet, init_ms: u64) -> Power {
    power::take_ctrl_alt_del(console);
    let descriptor = match SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC) {
        Ok(descriptor) => Some(descriptor),
        Err(error) => {
            console.line(&format!("signals cannot be watched: {error}"));
            None
        }
    };
    let service = Service {
        program: "/proc/self/exe".into(),
        args: vec!["live".into(), "--init-ms".into(), init_ms.to_string().into()],
        env: vec![("PATH".into(), PATH.into())],
    };
    let session = match SystemRunner::new().spawn(&service) {
        Ok(session) => session,
        Err(error) => {
            console.line(&format!("the live session cannot be started: {}", chain(&error)));
            return restart_after_last_words(console);
        }
    };
    loop {
        match session.next(LOOK) {
            Some(Happening::Line(_, line)) => console.line(&line),
            Some(Happening::Exited(exit)) => return after_session(console, exit),
            None => {}
        }
        reap_orphans();
        if let Some(power) = descriptor.as_ref().and_then(asked_by_signal) {
            console.line(&format!("asked by a signal: the machine {}", power.words()));
            end_session(console, &session);
            return power;
        }
    }
}

/// What the signals that came ask for, in the words of busybox's `reboot`, `poweroff` and `halt`.
fn asked_by_signal(descriptor: &SignalFd) -> Option<Power> {
    let _open = descriptor.as_fd();
    let mut asked = None;
    while let Ok(Some(info)) = descriptor.read_signal() {
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        match signal {
            // SIGINT comes from the kernel for ctrl-alt-del
            Some(Signal::SIGINT | Signal::SIGTERM) => asked = Some(Power::Restart),
            Some(Signal::SIGUSR1 | Signal::SIGUSR2) => asked = Some(Power::Off),
            Some(_) | None => {}
        }
    }
    asked
}

fn end_session(console: &TtyConsole, session: &RunningTool) {
    session.terminate();
    let begin = clock::monotonic();
    while begin.elapsed() < ENDING {
        match session.next(LOOK) {
            Some(Happening::Line(_, line)) => console.line(&line),
            Some(Happening::Exited(_)) => return,
            None => {}
        }
    }
    session.kill();
}

fn after_session(console: &TtyConsole, exit: ToolExit) -> Power {
    match exit {
        ToolExit::Code(code) if code == i32::from(Exit::PowerOff.code()) => Power::Off,
        ToolExit::Code(code) if code == i32::from(Exit::Reboot.code()) => Power::Restart,
        exit => {
            console.line(&format!("the live session died: {}", fate::exit_words(exit)));
            restart_after_last_words(console)
        }
    }
}

fn restart_after_last_words(console: &TtyConsole) -> Power {
    console.line(&format!("the machine restarts in {} s", LAST_WORDS.as_secs()));
    std::thread::sleep(LAST_WORDS);
    Power::Restart
}
