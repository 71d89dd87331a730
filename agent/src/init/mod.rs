//! The agent as init of the live image: two processes, so that none of the work can take PID 1 down with it.
//!
//! PID 1 ([`pid_one`]) mounts, owns the consoles, reaps orphans, and restarts or switches off the machine; it does
//! nothing that waits for hardware. Its child ([`live`]) loads modules, brings up the network and looks after
//! `run`. If the child dies, PID 1 ends what it left and starts another that tells the coordinator and does what it says;
//! if that dies too, the machine restarts. PID 1 itself never ends.

mod address;
mod advertised;
mod console;
mod enrol;
mod fate;
mod haste;
mod interface;
mod layout;
mod lease;
mod lease6;
mod live;
mod module_index;
mod module_loader;
mod modules;
mod mounts;
mod network;
mod power;
mod resolver;
pub mod session;
mod shell;
mod stick;
mod usr;
mod way;

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::boot_parameters::BootParameters;
use crate::cli::Exit;
use crate::clock;
use crate::console::{Console, chain};
use crate::host::Host;
use crate::tools::runner::{
    Exit as ToolExit, Happening, Leads, RunningTool, Service, SystemRunner, reap_orphans,
};
use console::{CONSOLES, LineStart, TtyConsole};
use power::Power;

pub use live::{after_death, live};

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
    let console = Arc::new(TtyConsole::open(CONSOLES, line_start()));
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
        power::go(restart_after_last_words(&*console, std::thread::sleep), &console)
    }
    let power = survive(&*console, std::thread::sleep, || look_after(&console, &signals, init_ms));
    power::go(power, &console)
}

fn line_start() -> LineStart {
    let parameters = Host::live().text("/proc/cmdline").ok().and_then(|line| line.parse().ok());
    match parameters {
        Some(BootParameters { shell: true, .. }) => LineStart::OverPrompt,
        Some(_) | None => LineStart::Alone,
    }
}

/// Does `work`, and outlives its panic: then the machine restarts.
fn survive(console: &dyn Console, pause: impl Fn(Duration), work: impl FnOnce() -> Power) -> Power {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        console.line("PID 1 panicked: this is a bug of vetting-agent");
        restart_after_last_words(console, pause)
    })
}

fn watched_signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2] {
        signals.add(signal);
    }
    signals
}

/// Starts the live session, and another one to tell of its death if it dies; says what becomes of the machine.
fn look_after(console: &TtyConsole, signals: &SigSet, init_ms: u64) -> Power {
    power::take_ctrl_alt_del(console);
    let descriptor = match SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC) {
        Ok(descriptor) => Some(descriptor),
        Err(error) => {
            console.line(&format!("signals cannot be watched: {error}"));
            None
        }
    };
    let words = vec!["live".into(), "--init-ms".into(), init_ms.to_string().into()];
    let how = match session(console, descriptor.as_ref(), words.clone()) {
        SessionEnd::Asked(power) => return power,
        SessionEnd::Died(how) => format!("the live session died: {how}"),
    };
    console.line(&how);
    // what it looked after must not go on unwatched, and a stress test would go on for long
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    let teller = [words, vec!["--died".into(), how.into()]].concat();
    match session(console, descriptor.as_ref(), teller) {
        SessionEnd::Asked(power) => power,
        SessionEnd::Died(how) => {
            console.line(&format!("so did the one that should tell of it: {how}"));
            restart_after_last_words(console, std::thread::sleep)
        }
    }
}

/// How a live session ended.
enum SessionEnd {
    /// By itself or by a signal to PID 1, and this is to become of the machine.
    Asked(Power),
    /// Otherwise.
    Died(String),
}

/// Starts this program with `words` as PID 1's child and waits for its end, or for a signal.
fn session(console: &TtyConsole, signals: Option<&SignalFd>, words: Vec<OsString>) -> SessionEnd {
    let service = Service {
        program: "/proc/self/exe".into(),
        args: words,
        env: vec![("PATH".into(), PATH.into())],
        leads: Leads::Group,
    };
    let session = match SystemRunner::new().spawn(&service) {
        Ok(session) => session,
        Err(error) => return SessionEnd::Died(format!("it cannot be started: {}", chain(&error))),
    };
    loop {
        match session.next(LOOK) {
            Some(Happening::Line(_, line)) => console.line(&line),
            Some(Happening::Exited(exit)) => return end_of(exit),
            None => {}
        }
        reap_orphans();
        if let Some(power) = signals.and_then(asked_by_signal) {
            console.line(&format!("asked by a signal: the machine {}", power.words()));
            end_session(console, &session);
            return SessionEnd::Asked(power);
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

fn end_of(exit: ToolExit) -> SessionEnd {
    match exit {
        ToolExit::Code(code) if code == i32::from(Exit::PowerOff.code()) => SessionEnd::Asked(Power::Off),
        ToolExit::Code(code) if code == i32::from(Exit::Reboot.code()) => SessionEnd::Asked(Power::Restart),
        exit => SessionEnd::Died(fate::exit_words(exit)),
    }
}

fn restart_after_last_words(console: &dyn Console, pause: impl Fn(Duration)) -> Power {
    console.line(&format!("the machine restarts in {} s", LAST_WORDS.as_secs()));
    pause(LAST_WORDS);
    Power::Restart
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Console for Lines {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[test]
    fn a_panic_of_pid_one_is_told_and_then_the_machine_restarts() {
        let lines = Lines::default();
        let pauses = RefCell::new(Vec::new());
        let pause = |time| {
            // by now it has been said: the pause is for reading it
            assert_eq!(lines.0.lock().unwrap().len(), 2);
            pauses.borrow_mut().push(time);
        };
        assert_eq!(survive(&lines, pause, || panic!("on purpose")), Power::Restart);
        assert_eq!(*pauses.borrow(), [LAST_WORDS]);
        let said = lines.0.into_inner().unwrap();
        assert!(said[0].contains("panicked") && said[1].contains("restarts in"), "{said:?}");
    }

    #[test]
    fn without_a_panic_nothing_is_said() {
        let lines = Lines::default();
        let no_pause = |_| panic!("no pause");
        assert_eq!(survive(&lines, no_pause, || Power::Off), Power::Off);
        assert!(lines.0.into_inner().unwrap().is_empty());
    }

    #[test]
    fn only_two_exit_codes_ask_for_something() {
        let asked = |code: u8| match end_of(ToolExit::Code(code.into())) {
            SessionEnd::Asked(power) => Some(power),
            SessionEnd::Died(_) => None,
        };
        assert_eq!(asked(Exit::PowerOff.code()), Some(Power::Off));
        assert_eq!(asked(Exit::Reboot.code()), Some(Power::Restart));
        for code in [0, 1, 101, 137] {
            assert_eq!(asked(code), None);
        }
        let killed = end_of(ToolExit::Signal(9));
        assert!(matches!(killed, SessionEnd::Died(how) if how == "signal SIGKILL"));
    }
}
